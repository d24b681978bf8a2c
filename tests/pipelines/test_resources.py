"""Tasks with work for a GPU claim it from Luigi's scheduler, so that N GPUs get N shards."""

from typing import Any

import pytest
from luigi.scheduler import Scheduler

from pipelines.tasks import BuildShard, FindShard, Join, Rank, ScoreShard


@pytest.mark.parametrize(
    ("task", "options", "gpus"),
    [
        (BuildShard, {"index": 0, "device": "cuda"}, 1),
        (BuildShard, {"index": 0, "device": "cuda:1"}, 1),
        (BuildShard, {"index": 0}, 0),
        (BuildShard, {"index": 0, "device": "cuda", "restore": "none"}, 0),
        (ScoreShard, {"index": 0, "device": "cuda"}, 0),
        (ScoreShard, {"index": 0, "device": "cuda", "score_on": "restored"}, 1),
        (FindShard, {"index": 0, "device": "cuda"}, 1),
        (Rank, {"device": "cuda"}, 0),
        (Join, {"device": "cuda"}, 0),
    ],
)
def test_tasks_that_compute_networks_claim_a_gpu(task: Any, options: dict[str, Any], gpus: int) -> None:
    assert task(**options).process_resources() == ({"gpu": 1} if gpus else {})


@pytest.mark.parametrize(("configured", "shards"), [({}, 1), ({"gpu": 2}, 2)])
def test_a_scheduler_hands_out_as_many_shards_as_it_has_gpus(configured: dict[str, int], shards: int) -> None:
    scheduler = Scheduler(resources=configured)
    tasks = [BuildShard(index=index, device="cuda") for index in range(4)]
    for number, task in enumerate(tasks):
        scheduler.add_task(worker=f"{number}", task_id=task.task_id, resources=task.process_resources())
    given = [scheduler.get_work(worker=f"{number}")["task_id"] for number in range(4)]
    assert len([task for task in given if task is not None]) == shards
