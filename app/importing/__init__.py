"""How do the tickets of a file come into the inbox?"""
