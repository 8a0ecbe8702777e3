"""Room for those who hold little: a run that fills the queue cannot keep others out."""

from contextlib import suppress

from opera_client.errors import Overloaded

from .house import House, refused


def test_a_run_that_was_refused_gets_the_next_room():
    house = House(tokens=100, budget=10, rate=10.0)
    for _ in range(10):
        house.ask(10, "greedy")
    assert refused(house, 10, "late").reason == "queue_tokens"
    house.compute()
    assert refused(house, 10, "greedy").reason == "fair_share"
    house.ask(10, "late")
    house.compute()
    house.ask(10, "greedy")


def test_what_a_run_is_about_to_queue_counts_with_what_it_has_queued():
    house = House(tokens=30, budget=10, rate=10.0)
    house.ask(10, "greedy")
    house.ask(10, "greedy")
    house.admission.enter("greedy", 10, None)
    assert refused(house, 10, "late").reason == "queue_tokens"
    house.compute()
    assert refused(house, 10, "greedy").reason == "fair_share"
    house.ask(10, "late")


def test_room_is_kept_by_requests_too():
    house = House(requests=3, budget=1)
    for _ in range(3):
        house.ask(1, "greedy")
    assert refused(house, 1, "late").reason == "queue_requests"
    house.compute()
    assert refused(house, 1, "greedy").reason == "fair_share"
    house.ask(1, "late")


def test_room_is_not_kept_for_those_who_do_not_come():
    house = House(tokens=100, budget=10, rate=10.0)
    for _ in range(10):
        house.ask(10, "greedy")
    wait = refused(house, 10, "gone").retry_after
    house.compute()
    refused(house, 10, "greedy")
    house.now += 2 * wait + 1.0
    house.ask(10, "greedy")


def test_a_run_that_holds_nothing_yields_to_nobody():
    house = House(tokens=100, budget=100)
    for _ in range(10):
        house.ask(10, "greedy")
    for number in range(50):
        refused(house, 10, f"stranger-{number}")
    house.compute()
    house.ask(10, "greedy")


def test_a_run_at_the_entrance_is_let_in_however_greedy_the_other():
    """One run sends as fast as it can; the other one comes now and then and waits as told."""
    house = House(tokens=100, budget=10, rate=10.0)
    house.ask(10, "greedy")
    house.compute()
    done, next_try, tries = 0, 0.0, 0
    for _ in range(300):
        try:
            while True:
                house.ask(10, "greedy")
        except Overloaded:
            pass
        if house.now >= next_try:
            tries += 1
            try:
                house.ask(10, "modest")
            except Overloaded as error:
                next_try = house.now + error.retry_after
        done += sum(work.run == "modest" for work in house.compute())
    assert tries >= 30
    assert done >= tries // 2 - 1, "refused at most once each time"


def test_even_a_queue_of_one_has_room_for_a_run_at_the_entrance():
    """What a run has on the engine counts, too: else it would refill an empty queue before the other is back."""
    house = House(requests=1, budget=1, rate=10.0)
    house.ask(10, "greedy")
    house.compute()
    waited, next_try = [], 0.0
    asked_at = house.now
    for _ in range(200):
        batch = house.queue.take().batch
        house.admission.started(batch)
        for _ in range(4):  # while the batch is computed
            house.now += 0.25
            with suppress(Overloaded):
                house.ask(10, "greedy")
            if house.now >= next_try:
                try:
                    house.ask(10, "modest")
                    waited.append(house.now - asked_at)
                    asked_at = next_try = house.now + 3.0
                except Overloaded as error:
                    next_try = house.now + error.retry_after
        house.admission.finished(well=True)
    assert len(waited) >= 20
    assert max(waited) <= 6.0


def test_no_room_is_kept_for_what_is_never_sent_again():
    house = House(tokens=100, budget=10, rate=10.0)
    for _ in range(10):
        house.ask(10, "honest")
    for _ in range(50):
        with suppress(Overloaded):
            house.admission.enter("hints", 10, None, comes_back=False)
    house.compute()
    house.ask(10, "honest")
    assert refused(house, 10, "honest").retry_after == refused(fresh_and_full(), 10, "honest").retry_after


def fresh_and_full() -> House:
    """The same house without anybody else."""
    house = House(tokens=100, budget=10, rate=10.0)
    for _ in range(10):
        house.ask(10, "honest")
    house.compute()
    house.ask(10, "honest")
    return house
