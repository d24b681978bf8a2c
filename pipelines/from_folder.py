"""A build from a folder of one's own photos: `luigi --module pipelines BuildFromFolder --help`.

The tasks are those of every build, with the options of this one.
"""

from typing import Any

from pipelines.build_task import BuildTask
from pipelines.folder_layout import FolderLayout, FolderOptions
from pipelines.options import check_values
from pipelines.parameters import parameters
from pipelines.tasks import Build, BuildShard, FindFaces, FindShard, Join, Rank, Report, ScoreShard, Verify


class FolderTask(BuildTask):
    """A task of a build from a folder: its requirements are such tasks, too."""

    vars().update(parameters(FolderOptions))
    celeba_dir = None  # no option of these builds

    @property
    def layout(self) -> FolderLayout:
        return self.layout_as(FolderLayout)

    def __str__(self) -> str:
        return super().__str__().removeprefix("Folder")

    def clone(self, cls: Any = None, **kwargs: Any) -> Any:
        """Return a task of this build with these parameters changed; of the class for folders."""
        return super().clone(_FOR_FOLDERS.get(cls, cls), **kwargs)


_FOR_FOLDERS: dict[Any, Any] = {
    task: type(f"Folder{task.__name__}", (FolderTask, task), {"__module__": __name__, "__doc__": task.__doc__})
    for task in (FindShard, FindFaces, ScoreShard, Rank, BuildShard, Join, Verify, Report)
}
"""Tasks of every build -> the same with the options of this one."""


class BuildFromFolder(FolderTask, Build):
    """Photos of your own -> faces.h5, landmarks.csv, ranking.csv, rejected.csv and report/index.html."""

    def prepare(self) -> None:
        layout = self.layout
        check_values(layout)
        _ = layout.restorer, layout.folder_photos, layout.own_attributes  # raise for mistakes before faces are found
        super().prepare()

    def results(self) -> str:
        """Say where the results are."""
        table = layout.landmarks_csv if (layout := self.layout).landmark_source.reads_pixels else layout.landmarks
        return f"{super().results()}\nfaces    {table}"
