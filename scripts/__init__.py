"""Programs for people who work on Towline: the environment, the pins, and checks of the documentation."""
