"""Compare hand-written and learned prompts on images: `python app.py`, or as a Space of the Hub.

The learned prompts are in `adapters`, a folder each; images to pick from are in `images`; `space.yaml` names the base
model and the hand-written prompt.
"""

from pathlib import Path

from hf_sharp_prompt.space import open_space


app = open_space(Path(__file__).parent)

if __name__ == "__main__":
    app.launch(max_file_size="20mb")
