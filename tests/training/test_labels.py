"""What labels a Trainer takes: class indices, among the model's classes, or probabilities of the classes."""

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Sequence, Value
from torch.utils.data import IterableDataset
from training.small_runs import CLASSES, WIDTH, accuracy, make_data, make_samples, make_trainer, train

from hf_sharp_prompt.objectives import Batch
from hf_sharp_prompt.training.label_check import check_class_order


SETTINGS = {
    "sam": {},
    "accumulation": {"gradient_accumulation_steps": 3, "per_device_train_batch_size": 2},
    "micro-batches": {"gradient_accumulation_steps": 2, "m_sharpness": "micro_batch"},
    "objectives": {"objectives": ["kgcoop", "prograd", "promptsrc"]},
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_one_hot_labels_train_like_class_indices(setting, tmp_path):
    """Mixup and CutMix give probabilities; counted by elements, the loss is divided by the number of classes."""
    arguments = SETTINGS[setting]
    hard, soft = (train(tmp_path, data=make_samples(soft=soft), **arguments) for soft in (False, True))
    torch.testing.assert_close(soft, hard, rtol=1e-9, atol=1e-12)


def test_the_loss_of_mixed_labels_is_that_of_the_equation(tmp_path):
    """`-Σ_i Σ_c y_ic log p_ic / n`, n samples."""
    mixed = [{**each, "labels": torch.tensor([0.7, 0.3, 0, 0, 0]).double()} for each in make_samples(6)]
    trainer = make_trainer(tmp_path, data=mixed, sharpness="none", max_steps=1)
    with torch.no_grad():
        features = torch.stack([each["image_features"] for each in mixed])
        log_p = trainer.model(image_features=features).logits.log_softmax(-1)
    trainer.train()
    expected = -(0.7 * log_p[:, 0] + 0.3 * log_p[:, 1]).mean()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(float(expected), rel=1e-6)


REFUSING = {
    "label_smoothing_factor": {"label_smoothing_factor": 0.1},
    "reweighting_beta": {"reweighting_beta": 0.9, "class_counts": [4] * 5},
    "loss": {"loss": "logit_adjustment", "class_counts": [4] * 5},
    "sharpness='imbsam'": {"sharpness": "imbsam", "sharpness_args": {"tail_classes": [1]}},
    "sharpness='focalsam'": {"sharpness": "focalsam", "class_counts": [4] * 5},
}


@pytest.mark.parametrize("name", REFUSING)
def test_what_needs_class_indices_refuses_probabilities(name, tmp_path):
    with pytest.raises(ValueError, match=f"labels are probabilities of the classes, but .*{name} needs class indices"):
        train(tmp_path, data=make_samples(soft=True), **REFUSING[name])


def test_objectives_count_samples_not_probabilities():
    labels = torch.tensor([[0.5, 0.5], [0.0, 0.0], [1.0, 0.0]])
    batch = Batch(torch.nn.Identity(), {}, torch.zeros(3, 2), labels)
    assert batch.counted.tolist() == [True, False, True]
    assert float(batch.mean(torch.tensor([1.0, 7.0, 3.0]))) == 2


class Streaming(IterableDataset):
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


OUTSIDE = {
    "one class too many": torch.tensor(5),
    "negative": torch.tensor(-1),
    "none": None,
    "probabilities of other classes": torch.ones(3) / 3,
}


@pytest.mark.parametrize(
    ("call", "outside", "workers"),
    [
        *((call, outside, 0) for call in ("train", "evaluate", "predict", "stream") for outside in OUTSIDE),
        ("train", "negative", 1),
        ("predict", "one class too many", 1),
    ],
)
def test_labels_outside_the_classes_are_named_before_they_reach_the_model(call, outside, workers, tmp_path):
    """On a GPU they end in a device-side assertion, which names neither the label nor the remedy."""
    data = [{**each, "labels": OUTSIDE[outside]} for each in make_samples(6)]
    arguments = {"max_steps": 1, "dataloader_num_workers": workers}
    trainer = make_trainer(tmp_path, data=Streaming(data) if call == "stream" else data, **arguments)
    calls = {"train": trainer.train, "stream": trainer.train}
    calls |= {"evaluate": lambda: trainer.evaluate(data), "predict": lambda: trainer.predict(data)}
    message = {
        "one class too many": "Label 5 is not among the 5 classes of the model, which are 0 to 4",
        "negative": "Label -1 is not among the 5 classes",
        "none": "has no label",
        "probabilities of other classes": "samples × 5 classes, but they have the shape",
    }[outside]
    with pytest.raises(ValueError, match=message):
        calls[call]()


def test_ignored_labels_are_allowed(tmp_path):
    data = [*make_samples(10), *({**each, "labels": torch.tensor(-100)} for each in make_samples(10))]
    assert train(tmp_path, data=data).isfinite().all()


ORDERS = {
    "the same": (CLASSES, None),
    "spelled otherwise": ([name.upper().replace(" ", "_") for name in CLASSES], None),
    "other names": (["n01", "n02", "n03", "n04", "n05"], None),
    "more classes": ([*CLASSES, "white cross"], None),
    "another order": ([CLASSES[1], CLASSES[0], *CLASSES[2:]], "Label 0 of the data is 'blue heart', but of the model"),
    "the last ones": (CLASSES[2:], "Label 0 of the data is 'green star', but of the model that is 'red circle'"),
}


@pytest.mark.parametrize("order", ORDERS)
def test_the_classes_of_the_data_are_compared_with_those_of_the_model(order):
    """Data in another order trains and evaluates without a word, and every figure is wrong."""
    names, message = ORDERS[order]
    data = Dataset.from_dict({"label": [0]}, Features({"label": ClassLabel(names=names)}))
    if message is None:
        check_class_order(data, CLASSES)
    else:
        with pytest.raises(ValueError, match=message):
            check_class_order(data, CLASSES)


@pytest.mark.parametrize("call", ["train", "evaluate", "predict"])
def test_data_in_another_order_of_classes_is_refused(call, tmp_path):
    features = Features({"image_features": Sequence(Value("float64")), "label": ClassLabel(names=CLASSES[::-1])})
    data = Dataset.from_dict({"image_features": torch.randn(6, WIDTH).tolist(), "label": [0] * 6}, features)
    trainer = make_trainer(tmp_path, data=data, max_steps=1)
    calls = {"train": trainer.train}
    calls |= {"evaluate": lambda: trainer.evaluate(data), "predict": lambda: trainer.predict(data)}
    with pytest.raises(ValueError, match="Label 0 of the data is 'grey moon'"):
        calls[call]()


def test_workers_that_live_on_evaluate_the_data_that_is_given(tmp_path):
    """transformers keeps the first data set's loader, and measures that again under the other's name."""
    trainer = make_trainer(
        tmp_path,
        trainer_arguments={"compute_metrics": accuracy},
        dataloader_num_workers=1,
        dataloader_persistent_workers=True,
    )
    sizes = [len(trainer.get_eval_dataloader(make_data(count)).dataset) for count in (10, 6)]
    assert sizes == [10, 6]
