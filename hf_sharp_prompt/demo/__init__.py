"""A rendered world, models trained on it, and tasks in styles new and familiar to them, all offline.

A CLIP and a ViT for images of one object, to be classified; an OWL-ViT and a CLIPSeg for scenes of several objects, to
be found and to be outlined.

```python
from transformers import CLIPModel

from hf_sharp_prompt.demo import CLIP_PATH, DEFAULT_TASK, load_task

clip = CLIPModel.from_pretrained(CLIP_PATH)
splits = load_task(DEFAULT_TASK)
```

The same for scenes:

```python
from transformers import OwlViTForObjectDetection

from hf_sharp_prompt.demo import DEFAULT_SCENE_TASK, OWLVIT_PATH, load_scene_task

owlvit = OwlViTForObjectDetection.from_pretrained(OWLVIT_PATH)
splits = load_scene_task(DEFAULT_SCENE_TASK)
```
"""

from pathlib import Path

from .scene_tasks import DEFAULT_SCENE_TASK, SCENE_TASKS, SceneTask, load_scene_task
from .tasks import (
    DEFAULT_TASK,
    FAMILIAR_TASKS,
    LONG_TAIL_TASK,
    TASKS,
    UNFAMILIAR_TASKS,
    Task,
    load_long_tail,
    load_task,
)


CLIP_PATH = Path(__file__).parent / "clip"
"""The CLIP's directory for `from_pretrained`: model, tokenizer and image processor."""

OWLVIT_PATH = Path(__file__).parent / "owlvit"
"""The OWL-ViT's directory for `from_pretrained`: model, tokenizer and image processor."""

CLIPSEG_PATH = Path(__file__).parent / "clipseg"
"""The CLIPSeg's directory for `from_pretrained`: model, tokenizer and image processor."""

VIT_PATH = Path(__file__).parent / "vit"
"""The ViT's directory for `from_pretrained`: model and image processor."""

__all__ = [
    "CLIPSEG_PATH",
    "CLIP_PATH",
    "DEFAULT_SCENE_TASK",
    "DEFAULT_TASK",
    "FAMILIAR_TASKS",
    "LONG_TAIL_TASK",
    "OWLVIT_PATH",
    "SCENE_TASKS",
    "TASKS",
    "UNFAMILIAR_TASKS",
    "VIT_PATH",
    "SceneTask",
    "Task",
    "load_long_tail",
    "load_scene_task",
    "load_task",
]
