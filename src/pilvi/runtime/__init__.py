"""What every controller stands on: informers, work queue, controller, results, conditions, finalizers, events, supervision.

The way of a change: API -> informer (cache) -> controller's handler (keys) -> work queue -> reconcile(key) -> result -> queue.
"""

from pilvi.runtime.conditions import condition, conditions_of, find_condition, is_true, merge_conditions, set_condition
from pilvi.runtime.controller import Controller, KeysFunction, Reconcile, Watch, no_keys
from pilvi.runtime.events import EventRecorder
from pilvi.runtime.finalizers import ensure_finalizer, has_finalizer, is_deleting, remove_finalizer
from pilvi.runtime.informer import Informer
from pilvi.runtime.informers import Informers
from pilvi.runtime.metrics import Metrics
from pilvi.runtime.owners import controller_key, controller_of, is_controlled_by, owner_reference
from pilvi.runtime.predicates import any_change, conditions_changed, desire_changed
from pilvi.runtime.queue import WorkQueue
from pilvi.runtime.results import Done, Failed, RequeueAfter, Result, Waiting
from pilvi.runtime.stacks import render_tasks
from pilvi.runtime.supervise import Supervisor, run_together

__all__ = [
    "Controller",
    "Done",
    "EventRecorder",
    "Failed",
    "Informer",
    "Informers",
    "KeysFunction",
    "Metrics",
    "Reconcile",
    "RequeueAfter",
    "Result",
    "Supervisor",
    "Waiting",
    "Watch",
    "WorkQueue",
    "any_change",
    "condition",
    "conditions_changed",
    "conditions_of",
    "controller_key",
    "controller_of",
    "desire_changed",
    "ensure_finalizer",
    "find_condition",
    "has_finalizer",
    "is_controlled_by",
    "is_deleting",
    "is_true",
    "merge_conditions",
    "no_keys",
    "owner_reference",
    "remove_finalizer",
    "render_tasks",
    "run_together",
    "set_condition",
]
