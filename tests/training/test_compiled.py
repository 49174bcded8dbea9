"""What `torch.compile` makes of a training step: one graph, made once, which a CUDA graph can hold."""

import torch
from training.small_runs import load_processor, make_data, make_model, make_trainer

from hf_sharp_prompt import sharpness


OTHERS = ["blue circle", "red heart", "grey star", "green ring", "yellow moon"]


def direction_of(model, called, data) -> torch.Tensor:
    """The direction of SAM where `called`, the model or what was compiled of it, computes the loss."""
    inputs = [data[index] for index in range(6)]
    features = torch.stack([each["image_features"] for each in inputs])
    labels = torch.tensor([int(each["labels"]) for each in inputs])
    size = torch.tensor(len(labels))
    model.zero_grad()
    sharp = sharpness.SharpnessAware(sharpness.create("sam", rho=0.05), model)
    sharp.backward(lambda: called(image_features=features, labels=labels, num_items_in_batch=size).loss)
    return sharp.parameters.read_gradients()


def test_a_step_compiles_into_one_graph_once():
    """A second graph, or another one at every step, would make compiled training slower than plain."""
    model, data, graphs = make_model(torch.float32), make_data(6, torch.float32), []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(model, fullgraph=True, backend=backend)
    expected = [direction_of(model, model, data)]
    actual = [direction_of(model, compiled, data)]
    with torch._dynamo.config.patch(error_on_recompile=True), torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * parameter.requires_grad)
        with torch.enable_grad():
            actual.append(direction_of(model, compiled, data))
            expected.append(direction_of(model, model, data))
    (graph,) = graphs
    called = {node.target for node in graph.graph.nodes if node.op == "call_function"}
    assert torch.tensor not in called, "copied from Python, so that no CUDA graph can hold it"
    assert len(list(graph.buffers())) == 5, "token ids and places of texts, which are on the device"

    model.set_classes(OTHERS, load_processor(), "{}.")  # texts of the same lengths
    expected.append(direction_of(model, model, data))
    actual.append(direction_of(model, compiled, data))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_evaluation_is_not_compiled(tmp_path):
    """Each set of classes would be compiled for a few batches, and a CUDA graph overwrites kept logits."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    data = {"eval_dataset": make_data()}
    trainer = make_trainer(tmp_path, trainer_arguments=data, torch_compile=True, torch_compile_backend="eager")
    assert "eval_loss" in trainer.evaluate()
    assert not torch._dynamo.utils.counters["stats"]
