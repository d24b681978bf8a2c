"""What is read from stats.jsonl, also when it is damaged or does not exist yet."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pggan.config.schedule import ScheduleConfig, stages
from pggan.report.data import Stats, newest_swd, phase_at, read_stats, speeds
from pggan.training.log import number

SCHEDULE = ScheduleConfig(8, training_kimg=10.0, transition_kimg=10.0, total_kimg=50.0, minibatch_base=10)
DAY = "2026-11-22T"
CPU = {"devices": 1, "device": "cpu", "precision": "bf16"}


def row(images: int, **more: Any) -> dict[str, Any]:
    return {"images": images, **more}


def event(time: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"time": f"{DAY}{time}", "event": kind, **more}


def tick(time: str, images: int) -> dict[str, Any]:
    return row(images, time=f"{DAY}{time}", loss={})


LINES = [
    event("13:55:46", "started", **CPU),
    event("13:55:47", "forked", message="--learning-rate (schedule.rate_base) is 0.002, the run has 0.001"),
    tick("13:56:01", 5060),
    event("13:57:00", "growing", images=15040, message="growing to 8 x 8 after 15040 images"),
    event("13:58:01", "discarded", images=20110),
    event("14:10:00", "started", devices=2, device="cuda", precision="fp32"),
    event("14:10:01", "warning", message="checkpoint-000000020112.pt is damaged (x); trying the one before"),
    event("14:10:02", "resumed", images=15040, message="resumed from 15040 images"),
    tick("14:11:01", 20110),
    event("14:12:00", "warning", message="loss is not finite; going back to the last good checkpoint, once"),
    event("14:12:01", "resumed", images=18000, message="resumed from 18000 images"),
    event("14:13:00", "stopped", images=19008, message="stopped after 19008 images, as asked"),
    event("15:00:00", "started", **CPU),
    event("15:00:00", "resumed", images=19008, message="resumed from 19008 images"),
    {"time": "2026-99-22T15:00:00", "event": "note", "message": "a line that is damaged"},
    event("16:00:00", "finished", images=400000, message="finished after 400000 images: run/final.safetensors"),
    event("17:00:00", "started", **CPU),
    event("17:00:01", "resumed", images=400000, message="resumed from 400000 images"),
    event("17:00:30", "failed", message="/run: no space left"),
]


def test_sessions_and_messages(tmp_path: Path) -> None:
    (tmp_path / "stats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    stats = read_stats(tmp_path / "stats.jsonl")
    sessions = [(s.first, s.last, s.device, s.end, s.seconds) for s in stats.sessions]
    assert sessions == [
        (0, 20110, "1 x cpu, bf16", "open", 135),
        (15040, 19008, "2 x cuda, fp32", "stopped", 180),
        (19008, 400000, "1 x cpu, bf16", "finished", 3600),
        (400000, 400000, "1 x cpu, bf16", "failed", 30),
    ]
    assert [message.kind for message in stats.messages] == [
        *("forked", "growing", "warning", "resumed", "warning", "resumed", "stopped", "resumed", "finished"),
        *("resumed", "failed"),
    ]
    assert [message.time.minute for message in stats.messages if message.kind == "warning"] == [10, 12]
    assert [line["images"] for line in stats.rows] == [5060, 20110]
    assert stats.damaged == 0


def test_events_that_are_damaged(tmp_path: Path) -> None:
    lines = [
        {"event": "stopped", "images": 5, "time": f"{DAY}13:00:00"},  # of a session that is not known
        {"event": "started", "time": f"{DAY}13:00:00"},
        {"event": [1], "images": "many", "time": f"{DAY}13:00:09+00:00", "message": 7},
        {"event": "resumed", "time": 3},
        {"event": "finished", "images": {}, "time": "9999-12-31T23:59:59"},
    ]
    (tmp_path / "stats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    stats = read_stats(tmp_path / "stats.jsonl")
    assert [(s.first, s.last, s.device) for s in stats.sessions] == [(0, 0, "None x None, None")]
    assert [message.text for message in stats.messages] == ["7"]
    assert stats.images == 0


def test_runs_of_older_versions_have_no_sessions(tmp_path: Path) -> None:
    (tmp_path / "stats.jsonl").write_text(json.dumps(row(1000, loss={"d_loss": 1.0})) + "\n")
    (tmp_path / "log.txt").write_text("2026-11-22 13:57:00  resumed from 15040 images\n")
    stats = read_stats(tmp_path / "stats.jsonl")
    assert (stats.images, stats.sessions, stats.messages) == (1000, (), ())


def test_files_that_are_not_there_yet_are_empty(tmp_path: Path) -> None:
    stats = read_stats(tmp_path / "stats.jsonl")
    assert stats.sessions == ()
    assert stats == Stats((), 0)
    assert (stats.images, stats.seconds, stats.names("loss")) == (0, 0.0, [])
    assert speeds(stats, stages(SCHEDULE)) == []


def test_damaged_lines_are_counted_and_left_out(tmp_path: Path) -> None:
    lines = [
        json.dumps(row(2000, loss={"d_loss": -1.5})),
        '{"images": 3000, "loss": {"d_lo',
        "",
        "[1, 2]",
        '{"loss": {}}',
        '{"images": "many"}',
        '{"images": NaN}',
        "[" * 100_000,
        json.dumps(row(1000, loss={"d_loss": math.nan, "g_loss": "1"})),
        json.dumps(row(4000, loss=[1], timing={"seconds": 10**400})),
    ]
    (tmp_path / "stats.jsonl").write_bytes("\n".join(lines).encode() + b"\n\xff\n")
    stats = read_stats(tmp_path / "stats.jsonl")
    assert [line["images"] for line in stats.rows] == [1000, 2000, 4000]
    assert stats.damaged == 8
    kimg, values = stats.series("loss", "d_loss")
    assert np.array_equal(kimg, [1, 2])
    assert np.array_equal(values, [math.nan, -1.5], equal_nan=True)
    assert math.isnan(stats.series("loss", "g_loss")[1][0])
    assert stats.names("loss") == ["d_loss", "g_loss"]
    assert stats.seconds == 0.0


@pytest.mark.parametrize("value", [True, None, "3", [3], {"x": 3}, math.inf, 10**400])
def test_what_is_no_number(value: object) -> None:
    assert math.isnan(number({"a": {"b": value}}, "a", "b"))
    assert number({"a": {"b": 3}}, "a", "b") == 3.0


def test_status_lines_count_for_the_phase_in_their_middle() -> None:
    phases = stages(SCHEDULE)
    assert [(p.resolution, p.fading, round(p.first_image / 1000), round(p.end_image / 1000)) for p in phases] == [
        (4, False, 0, 10),
        (8, True, 10, 20),
        (8, False, 20, 50),
    ]
    rows = [
        row(
            images,
            timing={"seconds": seconds, "images_per_second_step": step, "images_per_second_loader": 2 * step},
            memory={"process_peak": images, "device_peak": 7} if images > 20000 else {"process_peak": images},
        )
        for images, seconds, step in (
            *((6000, 10.0, 100.0), (12000, 30.0, 300.0), (18000, 70.0, 50.0)),
            *((24000, 100.0, 20.0), (30000, 200.0, 10.0), (36000, 210.0, 60.0)),
        )
    ]
    four, fading, eight = speeds(Stats(tuple(rows), 0), phases)
    assert (four.phase, fading.phase, eight.phase) == phases
    assert (four.first, four.last, four.seconds, four.step, four.loader) == (0, 12000, 30.0, 200.0, 400.0)
    assert (fading.first, fading.last, fading.seconds, fading.step) == (12000, 18000, 40.0, 50.0)
    assert (eight.seconds, eight.step, eight.process_bytes, eight.device_bytes) == (140.0, 20.0, 36000, 7)
    assert math.isnan(four.device_bytes)


def test_lines_of_metrics_have_no_speed() -> None:
    status = row(12000, timing={"seconds": 5.0, "images_per_second_step": 3.0}, memory=3)
    stats = Stats((status, *(row(n, timing={"seconds": 5.0, "metrics_seconds": 2.5}) for n in (12000, 13000))), 0)
    (found,) = speeds(stats, stages(SCHEDULE))
    assert (found.first, found.last, found.seconds, found.step) == (0, 12000, 5.0, 3.0)
    assert math.isnan(found.loader)
    assert math.isnan(found.process_bytes)
    assert stats.measuring_seconds == 5.0
    assert speeds(Stats((row(1000), row(2000, timing=None)), 0), stages(SCHEDULE)) == []


def test_newest_distances() -> None:
    def line(images: int, swd: float, alpha: float = 1.0, count: int = 64, **more: float) -> dict[str, Any]:
        return row(images, resolution=32, alpha=alpha, metrics_images=count, metrics={"swd": swd, **more})

    rows = (
        line(1000, 1.0, alpha=0.5),
        line(2000, 2.0, count=8),
        line(3000, 20.0),
        line(4000, 15.0),
        line(5000, 17.0, swd_16=14.0, swd_32=20.0, swd_floor=5.0, swd_floor_32=7.0, swd_x=1.0),
        row(6000, metrics={"ms_ssim": 0.5}),
    )
    found = newest_swd(Stats(rows, 0))
    assert found is not None
    assert (found.images, found.count, found.average, found.best) == (5000, 64, (17.0, 5.0), (4000, 15.0))
    assert [level for level, *_ in found.levels] == [32, 16]
    assert found.levels[0] == (32, 20.0, 7.0)
    assert found.levels[1][1] == 14.0
    assert math.isnan(found.levels[1][2])
    assert newest_swd(Stats(rows[-1:], 0)) is None


def test_beyond_the_schedule_lies_its_last_phase() -> None:
    phases = stages(SCHEDULE)
    assert phase_at(phases, 15.0) is phases[1]
    assert phase_at(phases, 1e9) is phases[-1]
