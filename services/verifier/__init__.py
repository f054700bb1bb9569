from shared.openmp import spin_briefly

spin_briefly()
