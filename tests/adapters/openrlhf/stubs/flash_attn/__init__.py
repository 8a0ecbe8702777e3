"""In flash-attn's place, for imports only: nothing here computes attention."""
