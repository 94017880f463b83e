"""Reports: pure functions from verdicts and traces to text. May import everything above them, checks included."""
