"""All scores -> which faces, in which order; ranking.csv and rejected.csv."""

import json
import sys

from datatools.console import say
from datatools.errors import DataError
from datatools.faces.duplicates import find_duplicates
from datatools.faces.ranking import Ranking, rank_faces, write_ranking_csv, write_rejected_csv
from datatools.files import atomic_path
from datatools.sources.records import RejectionKind
from datatools.text import counted
from pipelines.cleanup import forget
from pipelines.layout import BuildLayout
from pipelines.score_shard import ScoreTable, read_score_shards


def write_ranking(layout: BuildLayout) -> None:
    """Rank the scored faces, choose, and write both tables and the ranking. Raises DataError where there is no face."""
    forget(layout, "ranking", "reported", "finished")
    table = read_score_shards(layout)
    rejections = layout.early_rejections + table.rejections
    write_rejected_csv(layout.rejected_csv, rejections)
    if not len(table.position):
        raise DataError(
            f"none of {counted(len(layout.usable), 'photo')} gave a face; {layout.rejected_csv} lists the reasons"
        )
    records = [layout.candidates[i] for i in table.position]
    pairs = find_duplicates(table.hash)
    ranking = rank_faces(
        records,
        table.score,
        selection=layout.selection,
        count=layout.count,
        order=layout.order,
        drop=pairs if layout.duplicates == "drop" else (),
        min_score=layout.min_score,
    )
    write_ranking_csv(layout.ranking_csv, records, table.score, ranking, (*rejections, *layout.left_out))
    if not len(ranking.chosen):
        raise DataError(f"--min-score {layout.min_score:g}: the best face has the score {table.score.max():g}")
    if len(ranking.chosen) < layout.chosen_count:
        _warn_of_missing(layout, table, ranking)
    # What later tasks read (`pipelines.freshness.load_choice`): a list for each column of the chosen faces.
    columns = {"chosen": table.position, "rank": ranking.rank}
    columns |= {name: getattr(table, name) for name in ("score", "source_md5", "quad", "orientation")}
    content = {name: column[ranking.chosen].tolist() for name, column in columns.items()}
    content["duplicates"] = [(records[p.first].file_name, records[p.second].file_name, p.distance) for p in pairs]
    with atomic_path(layout.ranking_path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")


def _warn_of_missing(layout: BuildLayout, table: ScoreTable, ranking: Ranking) -> None:
    dropped = sum(r is not None and r.kind is RejectionKind.DUPLICATE for r in ranking.rejections)
    low = int((table.score < layout.min_score).sum())
    below = f", {counted(low, 'face')} below --min-score {layout.min_score:g} (ranking.csv)" if low else ""
    say(
        f"warning: {counted(len(ranking.chosen), 'image')} instead of {layout.chosen_count:,}: "
        f"{counted(len(table.rejections), 'photo')} could not be used (rejected.csv), "
        f"{counted(dropped, 'photo')} dropped as duplicate{'' if dropped == 1 else 's'} (ranking.csv)"
        f"{below}",
        sys.stderr,
    )
