"""What is it worth, and what does it cost? Run by hand, never by pytest: figures of one machine on one day."""
