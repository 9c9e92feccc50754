"""The two legs, score completion, fusion."""
