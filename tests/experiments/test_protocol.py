"""What every protocol's command records."""

from hf_sharp_prompt.experiments.protocol import command_line


def test_a_recorded_command_has_no_secrets():
    """The index is made to be shared."""
    words = ["--seeds", "1", "--hub_token", "hf_x", "--push_to_hub", "--hub_token=hf_y", "--dataset", "my images"]
    assert command_line(["sharp-prompt", "base2novel"], words) == (
        "sharp-prompt base2novel --seeds 1 --push_to_hub --dataset 'my images'"
    )
