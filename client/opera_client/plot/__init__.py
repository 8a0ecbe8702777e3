"""One self-contained HTML page about scored groups; works offline."""

from opera_client.plot.page import write_page

__all__ = ["write_page"]
