"""What the proofs of all engines share: probes, their report, the leak budget, and the mutants that prove them."""
