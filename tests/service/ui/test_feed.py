"""Pages hear of news soon, in bursts only once, and stop when they are told to."""

import asyncio
import json
import threading
import time

from opera_service.ui.feed import PAUSE_S, Feed


def seen(message: bytes) -> int:
    return json.loads(message.decode().split("data: ")[1])["seen"]


async def test_a_page_hears_at_once_and_then_of_news_from_any_thread():
    feed = Feed()
    messages = feed.messages(lambda: False)
    assert seen(await anext(messages)) == 0
    start = time.monotonic()
    threading.Thread(target=feed.tell).start()
    assert seen(await anext(messages)) == 1
    assert time.monotonic() - start < 1.0
    await messages.aclose()
    assert feed.listening == 0


async def test_a_burst_is_one_message():
    feed = Feed()
    messages = feed.messages(lambda: False)
    await anext(messages)
    for _ in range(1000):
        feed.tell()
    assert seen(await anext(messages)) == 1000
    feed.tell()
    start = time.monotonic()
    assert seen(await anext(messages)) == 1001
    assert time.monotonic() - start >= 0.8 * PAUSE_S
    await messages.aclose()


async def test_all_pages_hear_and_none_costs_anything_when_it_has_left():
    feed = Feed()
    pages = [feed.messages(lambda: False) for _ in range(3)]
    for page in pages:
        await anext(page)
    feed.tell()
    assert [seen(await anext(page)) for page in pages] == [1, 1, 1]
    await asyncio.gather(*(page.aclose() for page in pages))
    feed.tell()
    assert feed.listening == 0


async def test_a_line_ends_soon_after_it_is_told_to():
    over = False
    feed = Feed()
    messages = feed.messages(lambda: over)
    await anext(messages)
    over = True
    start = time.monotonic()
    assert [one async for one in messages] == []
    assert time.monotonic() - start < 2.0
