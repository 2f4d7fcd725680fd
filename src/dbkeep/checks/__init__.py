"""Controls: questions about an environment, each with one live verification, run by pytest over checks/."""
