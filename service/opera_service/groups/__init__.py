"""Groups whose members arrive one by one: who waits for whom, who is answered, and what is remembered.

Knows keys, sizes, deadlines and limits; no text, no reward, no HTTP.
"""
