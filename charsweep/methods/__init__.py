"""Methods: a base and a character in, something that trains out. Reached through conf/method/."""
