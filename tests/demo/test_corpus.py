"""Training documents: their format, their shares, and that answers follow the reasoning."""

import itertools
import re
from collections import Counter

from opera_demo.corpus import LABEL, documents
from opera_demo.world import LENGTHS, VERBS, Event, Task

DOCUMENTS = list(itertools.islice(documents(seed=7), 2000))


def whole(document):
    return "".join(span.text for span in document)


def learnt(document):
    return "".join(span.text for span in document if span.learn)


def is_restated(thought):
    return re.fullmatch(r"<think>\nThe \w+ now has \d+ \w+\.\n+", thought) is not None


def test_every_document_has_the_fixed_format():
    form = re.compile(
        r"<\|im_start\|>user\nThe .*\?<\|im_end\|>\n<\|im_start\|>assistant\n"
        r"<think>\n(|.+\n|(.+\n\n)+(.+\n)?)</think>\n\n(Answer:\n)?The .+\.<\|im_end\|>"
    )
    assert all(form.fullmatch(whole(document)) for document in DOCUMENTS)


def test_only_tasks_of_the_train_split_are_used():
    for document in DOCUMENTS:
        story = re.search(r"The (\w+) has (\d+) (\w+)\. (.*) How", document[0].text)
        events = re.findall(r"(\w+) (\w+) (\d+)\.", story[4])
        told = tuple(Event(actor, verb, int(amount)) for actor, verb, amount in events)
        assert Task(story[1], story[3], int(story[2]), told).split == "train"


def test_the_question_the_label_and_noise_are_read_but_not_learnt():
    assert all(learnt(document).startswith("<think>\n") for document in DOCUMENTS)
    unlearnt = [{span.text for span in document[1:] if not span.learn} for document in DOCUMENTS]
    assert 0.27 < sum(LABEL in texts for texts in unlearnt) / len(DOCUMENTS) < 0.33
    assert 0 < sum(bool(texts - {LABEL}) for texts in unlearnt) < 0.15 * len(DOCUMENTS)


def test_the_answer_follows_the_last_calculation_and_the_events_not_yet_told():
    for document in DOCUMENTS:
        story = document[0].text
        events = re.findall(r"(\w+) (\w+) (\d+)\.", story)
        thought, _, answer = learnt(document).partition("</think>")
        if is_restated(thought):
            assert thought.removeprefix("<think>\n").strip() == answer.removesuffix("<|im_end|>").strip()
            continue
        told = [event for event in events if f"{event[0]} {event[1]} {event[2]}," in thought]
        results = re.findall(r" is (\d+)\.", thought)
        total = int(results[-1] if results else re.search(r"has (\d+)", story)[1])
        total += sum(VERBS[verb] * int(amount) for _, verb, amount in events[len(told) :])
        assert int(re.search(r"now has (\d+)", answer)[1]) == total


def test_long_and_direct_and_cut_and_tight_documents_have_their_shares():
    count = Counter()
    for document in DOCUMENTS:
        events = len(re.findall(r"\w+ \w+ \d+\.", document[0].text))
        thought = learnt(document).partition("</think>")[0].removeprefix("<think>\n")
        told = len(re.findall(rf"\w+ ({'|'.join(VERBS)}) \d+,", thought))
        count["restated"] += is_restated(f"<think>\n{thought}")
        count["harder"] += events >= LENGTHS["harder"][0]
        count["direct"] += not thought
        count["early"] += 0 < told < events
        count["tight"] += thought.endswith("\n") and not thought.endswith("\n\n")
        count["reflective"] += bool(re.search(r"^(Wait|But|Hmm|However)", thought, re.M))
    share = {kind: number / len(DOCUMENTS) for kind, number in count.items()}
    assert 0.22 < share["harder"] < 0.28
    assert 0.17 < share["restated"] < 0.23
    assert 0.06 < share["direct"] < 0.10
    assert 0.18 < share["early"] < 0.40
    assert 0.20 < share["tight"] < 0.32
    assert 0.10 < share["reflective"] < 0.50


def test_the_same_seed_gives_the_same_documents():
    assert list(itertools.islice(documents(seed=7), 50)) == DOCUMENTS[:50]
    assert list(itertools.islice(documents(seed=8), 50)) != DOCUMENTS[:50]
