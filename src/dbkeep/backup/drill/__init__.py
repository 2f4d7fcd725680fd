"""The drill: a set restored into throw-away engines, compared and attacked, torn down whatever happens."""
