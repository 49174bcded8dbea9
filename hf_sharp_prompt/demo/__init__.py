"""A rendered world, a CLIP trained on it, and few-shot tasks in styles it has never seen: all that runs offline.

```python
from transformers import CLIPModel

from hf_sharp_prompt.demo import CLIP_PATH, DEFAULT_TASK, load_task

clip = CLIPModel.from_pretrained(CLIP_PATH)
splits = load_task(DEFAULT_TASK)
```
"""

from pathlib import Path

from .tasks import DEFAULT_TASK, TASKS, Task, load_task


CLIP_PATH = Path(__file__).parent / "clip"
"""The checkpoint's directory: model, tokenizer and image processor, as `from_pretrained` takes it."""

__all__ = ["CLIP_PATH", "DEFAULT_TASK", "TASKS", "Task", "load_task"]
