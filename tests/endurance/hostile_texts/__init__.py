"""What ``tests/endurance/hostile.py`` is made of: the texts, a study that holds one everywhere, what reads all of it."""
