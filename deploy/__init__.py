"""What is written for those who run AdaServe: dashboards, from one description each."""
