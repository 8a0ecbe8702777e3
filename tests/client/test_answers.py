"""Answers that look right and are not: each must be refused, none may reach a trainer."""

import copy

import pytest
from tests.client.toy import MODEL, Service, group, toy_rank_answer, toy_reward_answer

from opera_client import RewardClient
from opera_client.errors import UnexpectedAnswer, WeightVersionMismatch

GROUPS = [group("a", "bb", group_id="g"), group("c", "", group_id="h")]


def drop_group(answer):
    answer["groups"].pop()


def swap_groups(answer):
    answer["groups"].reverse()


def drop_trajectory(answer):
    answer["groups"][0]["trajectories"].pop()


def swap_trajectories(answer):
    answer["groups"][0]["trajectories"].reverse()


def wrong_size(answer):
    answer["groups"][0]["size"] = 3


def no_number(answer):
    answer["groups"][0]["trajectories"][0]["reward"] = None


def not_a_number(answer):
    answer["groups"][0]["trajectories"][0]["reward"] = float("nan")


def infinite(answer):
    answer["groups"][0]["trajectories"][0]["reward"] = float("inf")


def infinite_component(answer):
    answer["groups"][0]["trajectories"][0]["components"]["length"] = float("-inf")


def text_for_a_number(answer):
    answer["groups"][0]["trajectories"][0]["reward"] = "high"


def truth_for_a_number(answer):
    answer["groups"][0]["trajectories"][0]["reward"] = True


def a_number_in_quotes(answer):
    answer["groups"][0]["trajectories"][0]["reward"] = "0.5"


def truth_for_a_component(answer):
    answer["groups"][0]["trajectories"][0]["components"]["length"] = True


def a_count_in_quotes(answer):
    answer["usage"]["scored_tokens"] = "3"


def number_for_a_failure(answer):
    answer["groups"][1]["trajectories"][1]["reward"] = 0.0


def failure_without_reason(answer):
    answer["groups"][1]["trajectories"][1]["error"] = None


def another_reward(answer):
    answer["reward"] = "verifree"


def another_preset(answer):
    answer["preset"] = "paper"


REWARD_LIES = [
    drop_group, swap_groups, drop_trajectory, swap_trajectories, wrong_size, no_number, not_a_number, infinite,
    infinite_component, text_for_a_number, truth_for_a_number, a_number_in_quotes, truth_for_a_component,
    a_count_in_quotes, number_for_a_failure, failure_without_reason, another_reward,
    another_preset,
]  # fmt: skip


@pytest.mark.parametrize("lie", REWARD_LIES, ids=lambda lie: lie.__name__)
def test_a_reward_answer_that_does_not_fit_the_question_is_refused(service: Service, lie):
    def answer(path, request):
        body = toy_reward_answer(request)
        lie(body)
        return body

    service.answer = answer
    with RewardClient.in_process(service) as client, pytest.raises(UnexpectedAnswer):
        client.reward(GROUPS)


def test_the_honest_answer_passes_and_keeps_failures_as_none(service: Service):
    with RewardClient.in_process(service) as client:
        assert client.reward(GROUPS).rewards == [[0.01, 0.02], [0.01, None]]


@pytest.mark.parametrize(
    ("field", "value"),
    [("ranking", [0, 0]), ("ranking", [0]), ("ranking", [0, 1, 2]), ("candidates", []), ("id", "other")],
)
def test_a_ranking_that_is_no_order_of_the_candidates_is_refused(service: Service, field, value):
    def answer(path, request):
        body = toy_rank_answer(request)
        body["items"][0][field] = value
        return body

    service.answer = answer
    with RewardClient.in_process(service) as client, pytest.raises(UnexpectedAnswer):
        client.rank([{"prompt": "p", "candidates": ["a", "bb"]}])


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"weight_version": "8"}, WeightVersionMismatch),
        ({"name": "other"}, UnexpectedAnswer),
        ({"dtype": "bfloat16"}, UnexpectedAnswer),
    ],
)
def test_chunks_of_two_models_are_never_mixed(service: Service, change, kind):
    def answer(path, request):
        second = request["groups"][0]["group_id"] == "h"
        return toy_reward_answer(request, {**MODEL, **change} if second else MODEL)

    service.answer = answer
    with RewardClient.in_process(service, options={"max_items": 1}) as client, pytest.raises(kind):
        client.reward(GROUPS)


def test_chunks_of_two_configs_are_never_mixed(service: Service):
    def answer(path, request):
        body = copy.deepcopy(toy_reward_answer(request))
        body["config_hash"] = request["groups"][0]["group_id"]
        return body

    service.answer = answer
    with RewardClient.in_process(service, options={"max_items": 1}) as client, pytest.raises(UnexpectedAnswer):
        client.reward(GROUPS)
