"""`--dataset` takes a suite of the demo's tasks by one word."""

import pytest

from hf_sharp_prompt import demo
from hf_sharp_prompt.experiments.base_to_novel import BaseToNovelArguments
from hf_sharp_prompt.experiments.cross_dataset import CrossDatasetArguments
from hf_sharp_prompt.experiments.detection import DetectionArguments
from hf_sharp_prompt.experiments.domain_generalization import DomainGeneralizationArguments
from hf_sharp_prompt.experiments.few_shot import FewShotArguments
from hf_sharp_prompt.experiments.long_tail import LongTailArguments
from hf_sharp_prompt.experiments.manuals import base2novel, cross_dataset, domain_generalization, few_shot, long_tail


PROTOCOLS = {
    BaseToNovelArguments: base2novel,
    FewShotArguments: few_shot,
    CrossDatasetArguments: cross_dataset,
    DomainGeneralizationArguments: domain_generalization,
    LongTailArguments: long_tail,
}


@pytest.mark.parametrize(("kind", "manual"), PROTOCOLS.items(), ids=lambda each: each.__name__)
def test_familiar_is_its_tasks_in_every_protocol_of_classification(kind, manual):
    args = kind(dataset=["familiar"])
    assert args.datasets == list(demo.FAMILIAR_TASKS)
    assert args.on_demo
    assert "'familiar'" in manual.MANUAL["dataset"].help


def test_all_is_the_first_suite():
    """Results that were measured with it stay comparable."""
    assert BaseToNovelArguments(dataset=["all"]).datasets == list(demo.UNFAMILIAR_TASKS)
    assert LongTailArguments(dataset=["all"]).datasets == [demo.LONG_TAIL_TASK.name, *demo.UNFAMILIAR_TASKS]
    assert DetectionArguments(dataset=["all"]).datasets == list(demo.SCENE_TASKS)


def test_suites_and_data_sets_run_together():
    args = BaseToNovelArguments(dataset=["all", "familiar", "me/photos"])
    assert args.datasets == [*demo.TASKS, "me/photos"]
    assert not args.on_demo
    assert BaseToNovelArguments(dataset=["all", "familiar"]).on_demo


def test_a_task_beside_its_suite_is_refused():
    """It would be run once and counted twice."""
    task = next(iter(demo.FAMILIAR_TASKS))
    with pytest.raises(ValueError, match=f"--dataset has {task} more than once"):
        BaseToNovelArguments(dataset=["familiar", task])
