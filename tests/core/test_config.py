"""The one configuration: every file that ships is sound, and every mistake is one sentence."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
import yaml

from swipe_core.errors import ConfigError
from swipe_core.networks.swipe.build import SwipeConfig
from swipe_core.training.config import (
    ExperimentConfig,
    config_names,
    dump_config,
    load_config,
    parse_config,
)

LEAST = {"name": "least", "preprocessing": {}}


def sentence(*overrides: tuple[str, str], name: str | Path = "sessile") -> str:
    """The one sentence that a mistake is answered with."""
    with pytest.raises(ConfigError) as caught:
        load_config(name, overrides)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith((".", "?"))
    return text


@pytest.fixture
def yaml_file(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "experiment.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


class TestShippedFiles:
    def test_the_presets_of_the_paper_are_among_them(self):
        assert {"sessile", "bcv"} <= set(config_names())

    @pytest.mark.parametrize("name", config_names())
    def test_each_loads_under_its_own_name_and_says_what_it_is_for(self, name):
        config = load_config(name)
        assert config.name == name
        assert config.description.endswith(".")

    @pytest.mark.parametrize("name", config_names())
    def test_each_survives_being_written_and_read(self, name, yaml_file):
        config = load_config(name)
        assert load_config(yaml_file(dump_config(config))) == config

    @pytest.mark.parametrize("name", config_names())
    def test_each_trains_on_shapes_that_need_no_padding(self, name):
        """Random crops and resized images are whole patches: nothing is spent on padding."""
        config = load_config(name)
        shape = config.preprocessing.size or config.preprocessing.crop_size
        assert shape is not None
        coarsest = config.model.stem_stride * 8
        assert all(n % config.model.patch_size == n % coarsest == 0 for n in shape)

    def test_every_field_is_spelled_out_when_written(self):
        written = yaml.safe_load(dump_config(load_config("sessile")))
        assert set(written) == set(ExperimentConfig.model_fields)
        assert set(written["model"]) == set(SwipeConfig.model_fields)


class TestOverrides:
    def test_a_single_field_is_replaced_and_the_rest_stays(self):
        plain, changed = load_config("sessile"), load_config("sessile", [("training.steps", "3")])
        assert changed.training.steps == 3
        assert changed == plain.model_copy(update={"training": changed.training})
        assert changed.training == plain.training.model_copy(update={"steps": 3})

    def test_values_are_read_as_yaml(self):
        config = load_config(
            "sessile",
            [
                ("model.receptive_field", "false"),
                ("model.blocks", "[1, 1, 1, 1]"),
                ("training.learning_rate", "1e-3"),
                ("preprocessing.size", "[64, 96]"),
                ("augmentation", "null"),
                ("name", "mine"),
            ],
        )
        assert config.model.receptive_field is False
        assert config.model.blocks == (1, 1, 1, 1)
        assert config.training.learning_rate == 0.001
        assert config.preprocessing.size == (64, 96)
        assert config.augmentation is None
        assert config.name == "mine"

    def test_a_section_that_the_file_leaves_out_can_be_overridden(self):
        shipped = resources.files("swipe_core") / "configs" / "sessile.yaml"
        assert "sampling" not in yaml.safe_load(shipped.read_text(encoding="utf-8"))
        assert load_config("sessile", [("sampling.boundary_width", "4")]).sampling.boundary_width == 4

    def test_the_last_of_two_counts(self):
        twice = [("training.steps", "3"), ("training.steps", "4")]
        assert load_config("sessile", twice).training.steps == 4

    def test_a_misspelt_field_names_the_nearest(self):
        text = sentence(("training.stepz", "3"))
        assert "there is no field 'training.stepz'" in text
        assert "Did you mean 'steps'?" in text

    def test_so_does_one_in_every_section(self):
        for section, field, nearest in (
            ("model", "patchsize", "patch_size"),
            ("preprocessing", "spacin", "spacing"),
            ("labels", "class_name", "class_names"),
            ("augmentation", "rotations", "rotation"),
            ("inference", "overlaps", "overlap"),
        ):
            assert f"Did you mean {nearest!r}?" in sentence((f"{section}.{field}", "3"))

    def test_a_misspelt_section_names_the_nearest(self):
        assert "Did you mean 'training'?" in sentence(("trainin.steps", "3"))

    def test_a_path_through_a_value_is_refused(self):
        assert "steps is a value, not a section" in sentence(("training.steps.more", "3"))

    def test_a_value_that_is_no_yaml_is_refused(self):
        assert "'[1' cannot be read as a value" in sentence(("model.blocks", "[1"))


class TestMistakes:
    @pytest.mark.parametrize(
        ("field", "value", "said"),
        [
            ("training.steps", "many", "training.steps cannot be 'many'"),
            (
                "training.steps",
                "0",
                "training.steps cannot be 0 (Input should be greater than or equal to 1)",
            ),
            ("training.learning_rate", ".nan", "training.learning_rate cannot be nan"),
            (
                "model.backbone",
                "vgg",
                "model.backbone cannot be 'vgg' (Input should be 'res2net', 'unet', 'cct' or 'lite0')",
            ),
            ("model.connectivity", "6", "connectivity must be one of (4, 8) in 2D, not 6"),
            ("model.ndim", "3", "connectivity must be one of (6, 18, 26) in 3D, not 8"),
            ("model.cascade_stride", "12", "cascade_stride must be a power of two, not 12"),
            ("model.planes", "[64, 80, 96]", "model.planes"),
            ("model.planes", "[64, 80, 96, -1]", "cannot be -1"),
            ("model.blocks", "[0, 2, 2, 2]", "cannot be 0"),
            ("model.patch_hidden", "[256]", "model.patch_hidden"),
            ("model.patch_hidden", "[256, 0]", "cannot be 0"),
            ("preprocessing.size", "[384]", "`size` needs 2 numbers for ndim 2"),
            ("preprocessing.spacing", "[1.0, 1.0]", "`spacing` and `size` exclude each other"),
            ("model", "5", "model cannot be 5"),
            ("model", "large", "model cannot be 'large'"),
            ("preprocessing", "5", "preprocessing cannot be 5"),
            ("labels", "polyp", "labels cannot be 'polyp'"),
            ("labels.class_names", "3", "labels.class_names cannot be 3"),
            ("labels.class_names", "polyp", "labels.class_names cannot be 'polyp'"),
            ("labels.class_names", "null", "labels.class_names cannot be used as given"),
            ("labels.class_names", "[]", "labels.class_names"),
        ],
    )
    def test_an_unusable_value_is_named_with_its_field_and_the_reason(self, field, value, said):
        assert said in sentence((field, value))

    def test_a_number_of_classes_that_the_names_contradict_is_refused(self):
        text = sentence(("model.classes", "4"))
        assert "model.classes is 4, but labels.class_names makes 2 with the background" in text

    def test_dimensions_that_model_and_preprocessing_do_not_share_are_refused(self):
        text = sentence(("preprocessing.channels", "1"))
        assert "preprocessing.ndim and preprocessing.channels must be those of the model" in text

    def test_a_missing_field_is_named(self, yaml_file):
        assert "the field 'name' is missing" in sentence(name=yaml_file("preprocessing: {}"))

    def test_an_unknown_name_is_answered_with_those_there_are(self):
        text = sentence(name="sesile")
        assert all(name in text for name in config_names())
        assert "Did you mean 'sessile'?" in text

    def test_a_file_that_is_not_there_is_named(self, tmp_path):
        assert "There is no configuration file" in sentence(name=tmp_path / "none.yaml")

    @pytest.mark.parametrize(
        "text", ["model: [1", "- a\n- b\n", "", "just words", "a: \0", "!!python/object:os.system {}"]
    )
    def test_a_file_that_is_no_configuration_is_refused(self, text, yaml_file):
        assert "experiment.yaml" in sentence(name=yaml_file(text))

    def test_a_file_that_is_no_text_is_refused(self, tmp_path):
        path = tmp_path / "experiment.yaml"
        path.write_bytes(b"\xff\xfe\x00\x80")
        assert "cannot be read as text" in sentence(name=path)


class TestSharedNumbers:
    def test_the_number_of_classes_follows_from_the_names(self):
        labels = {"class_names": ["liver", "spleen"]}
        assert parse_config(LEAST | {"labels": labels}).model.classes == 3
        assert parse_config(LEAST).model.classes == 2

    def test_preprocessing_takes_its_dimensions_from_the_model(self):
        model = {"ndim": 3, "channels": 2, "connectivity": 6}
        preprocessing = parse_config(LEAST | {"model": model}).preprocessing
        assert (preprocessing.ndim, preprocessing.channels) == (3, 2)

    def test_sections_can_be_given_as_objects(self):
        config = load_config("bcv")
        sections = {"model": config.model, "labels": config.labels, "preprocessing": config.preprocessing}
        assert ExperimentConfig(name="objects", **sections).model == config.model
        from_names = ExperimentConfig(name="objects", labels=config.labels, preprocessing={})
        assert from_names.model.classes == 14

    def test_what_is_read_is_not_changed(self):
        values = {"name": "least", "model": {}, "preprocessing": {}}
        parse_config(values)
        assert values == {"name": "least", "model": {}, "preprocessing": {}}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("inference.chunk_points", "0"),
        ("batch.workers", "-1"),
        ("labels.class_colours", "[red]"),
        ("labels.class_names", "[nucleus, nucleus]"),
        ("labels.ignore_label", "255"),  # nuclei are instances: 255 is one of them
        ("inference.mirrored_axes", "[2]"),
    ],
)
def test_values_that_could_only_fail_later_are_refused_at_once(field, value):
    with pytest.raises(ConfigError) as error:
        load_config("nuclei", [(field, value)])
    assert "\n" not in str(error.value)
