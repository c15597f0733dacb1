"""The stories: each command joins rooms, computes and talks to the user."""
