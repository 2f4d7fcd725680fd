"""The controller's side: the agents of the hosts do the work, here it becomes one of the environment."""
