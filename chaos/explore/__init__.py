"""Many runs for one question: sweeps over seeds, hunts, replays and comparisons, on one machine or on many."""
