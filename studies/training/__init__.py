"""How runs are trained: what is trained, what is found out about it once, alone or together, here or in workers."""
