"""What every render of the chart must be. A policy is a pure function of a render and tells what it finds."""
