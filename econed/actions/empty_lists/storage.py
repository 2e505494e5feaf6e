"""Empty lists of tasks with disks and images, and of what Amazon does to snapshots."""

from __future__ import annotations

from typing import Final

from econed.actions.empty_lists.row import EmptyList, absent
from econed.ids import IMAGE, SNAPSHOT

# Ids are those of imported instances, images and snapshots: import-i-…, import-ami-… and import-snap-….
_IMPORT = absent("import", "InvalidConversionTaskId", "InvalidConversionTaskId.Malformed", "conversion task")

OF_STORAGE: Final = (
    EmptyList(
        "DescribeBundleTasks",
        "BundleTasks",
        "bundle tasks",
        (
            *("bundle-id", "error-code", "error-message", "instance-id", "progress", "s3-bucket", "s3-prefix"),
            *("start-time", "state", "update-time"),
        ),
        have_tags=False,
        ids="BundleIds",
        kind=absent("bun", "InvalidBundleID.NotFound", "InvalidBundleID.NotFound", "bundle ID"),
        max_results=None,
    ),
    EmptyList(
        "DescribeConversionTasks",
        "ConversionTasks",
        "conversion tasks",
        have_tags=False,
        ids="ConversionTaskIds",
        kind=_IMPORT,
        filters_in="",
        max_results=None,
    ),
    EmptyList(
        "DescribeExportTasks",
        "ExportTasks",
        "export tasks",
        have_tags=False,
        ids="ExportTaskIds",
        kind=absent("export", "InvalidExportTaskID.NotFound", "InvalidExportTaskID.Malformed", "export task ID"),
        max_results=None,
    ),
    EmptyList(
        "DescribeFastSnapshotRestores",
        "FastSnapshotRestores",
        "fast snapshot restores",
        ("availability-zone", "availability-zone-id", "owner-id", "snapshot-id", "state"),
        have_tags=False,
        max_results=(1, 200),
    ),
    EmptyList(
        "DescribeImportImageTasks",
        "ImportImageTasks",
        "tasks that import images",
        ("task-state",),
        ids="ImportTaskIds",
        kind=_IMPORT,
        max_results=(1, 1000),
    ),
    EmptyList(
        "DescribeImportSnapshotTasks",
        "ImportSnapshotTasks",
        "tasks that import snapshots",
        ("task-state",),
        ids="ImportTaskIds",
        kind=_IMPORT,
        max_results=(1, 1000),
    ),
    EmptyList(
        "DescribeLockedSnapshots",
        "Snapshots",
        "locked snapshots",
        ("lock-state",),
        have_tags=False,
        ids="SnapshotIds",
        kind=SNAPSHOT,
        ids_are_of_others=True,
    ),
    EmptyList(
        "DescribeStoreImageTasks",
        "StoreImageTaskResults",
        "tasks that store images",
        ("bucket", "task-state"),
        have_tags=False,
        max_results=(1, 200),
        ids="ImageIds",
        kind=IMAGE,
        ids_are_of_others=True,
    ),
)
