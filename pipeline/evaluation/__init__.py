"""Cache + protocol + scorers -> results."""
