"""Pictures of a pyramid in the layouts that other projects read; docs/exports.md describes them.

plan = plan_export(Pyramid("celebahq.h5"), Path("faces.zip"), range(1000), ExportOptions("stylegan-zip", 256))
write_export(plan)
"""

from datatools.exports.base import NAMES, PICTURE_FORMATS, TARGETS, ExportOptions
from datatools.exports.run import ExportPlan, plan_export, write_export

__all__ = ["NAMES", "PICTURE_FORMATS", "TARGETS", "ExportOptions", "ExportPlan", "plan_export", "write_export"]
