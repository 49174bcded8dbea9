"""A rendered world, a CLIP and a ViT trained on it, and tasks in styles that they have never seen, all offline.

```python
from transformers import CLIPModel

from hf_sharp_prompt.demo import CLIP_PATH, DEFAULT_TASK, load_task

clip = CLIPModel.from_pretrained(CLIP_PATH)
splits = load_task(DEFAULT_TASK)
```
"""

from pathlib import Path

from .tasks import DEFAULT_TASK, LONG_TAIL_TASK, TASKS, Task, load_long_tail, load_task


CLIP_PATH = Path(__file__).parent / "clip"
"""The CLIP's directory for `from_pretrained`: model, tokenizer and image processor."""

VIT_PATH = Path(__file__).parent / "vit"
"""The ViT's directory for `from_pretrained`: model and image processor."""

__all__ = [
    "CLIP_PATH",
    "DEFAULT_TASK",
    "LONG_TAIL_TASK",
    "TASKS",
    "VIT_PATH",
    "Task",
    "load_long_tail",
    "load_task",
]
