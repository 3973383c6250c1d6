"""The authors' checkpoints of all methods are told apart, built at their sizes, and read back."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mmcse.errors import UserError
from mmcse.models import CMPAE, CVCMS, DHHN, HAN, LEAP, LFAV, LSLD, MA, MGN, MMCSE, VALOR, DHHNPair, JoMoLD, MMPyramid
from mmcse.models.checkpoint_files import export_reference, import_checkpoint, load_network, recognise, save_network
from mmcse.models.hierarchical import HierarchicalContextNetwork
from mmcse.models.recognition import REFERENCES, candidates
from mmcse.models.reference import to_reference_state

SIZES = {"audio_dim": 6, "visual_dim": 7, "motion_dim": 5, "num_classes": 3, "num_segments": 10, "hidden_dim": 8}
LAYERS = {"num_layers": 1, "feedforward_dim": 6}
CASES = {
    "mmcse": (MMCSE, {"class_dim": 4, "num_heads": 2, "num_layers": 3}),
    "mmcse-one-linear": (MMCSE, {"class_dim": 4, "num_heads": 2, "visual_decoupler_linears": 1}),
    "han": (HAN, LAYERS),
    "valor": (VALOR, {"num_heads": 2, "feedforward_dim": 6, "num_layers": 2}),
    "jomold": (JoMoLD, LAYERS),
    "ma": (MA, LAYERS),
    "lsld": (LSLD, {"num_layers": 3}),
    "lsld-motion": (LSLD, {"num_layers": 3, "motion": True}),
    "cmpae": (CMPAE, LAYERS),
    "cvcms": (CVCMS, LAYERS | {"class_dim": 4}),
    "mgn": (MGN, {"num_heads": 2, "audio_depth": 1, "visual_depth": 2, "cross_depth": 3}),
    "mmpyramid": (MMPyramid, {"num_heads": 2, "num_levels": 3, "feedforward_dim": 6}),
    "leap": (LEAP, {"num_heads": 2, "num_levels": 2, "num_layers": 3, "feedforward_dim": 6}),
    "leap-han": (LEAP, {"num_heads": 2, "encoder": "han", "num_layers": 1}),
    "dhhn": (DHHNPair, {"feedforward_dim": 6}),
    "dhhn_parser": (HierarchicalContextNetwork, {"feedforward_dim": 6}),
    "lfav": (LFAV, {"num_heads": 2, "num_levels": 3}),
}
every_case = pytest.mark.parametrize("case", CASES)


@pytest.fixture
def embeddings(tmp_path):
    file = tmp_path / "labels.npy"
    np.save(file, np.random.default_rng(0).standard_normal((3, 300)).astype(np.float32))
    return str(file)


def built(case, embeddings):
    """A case's network, and the arguments that an import of it needs besides."""
    network, arguments = CASES[case]
    said = {name: arguments[name] for name in ("num_heads",) if name in arguments}
    given = {"num_classes": 3, "label_embeddings": embeddings} if network is LEAP else {}
    return network(**SIZES | arguments | given), said | given


@every_case
def test_a_network_is_recognised_built_and_read_back(case, embeddings, tmp_path):
    network, said = built(case, embeddings)
    export_reference(network, tmp_path / "theirs.pth")
    imported, arguments = import_checkpoint(tmp_path / "theirs.pth", **said)
    assert type(imported) is type(network)
    own = network.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in imported.state_dict().items())
    save_network(tmp_path / "folder", imported, arguments)
    Path(embeddings).unlink()  # they are among the weights, for whoever gets the folder without them
    loaded, _ = load_network(tmp_path / "folder")
    assert all(torch.equal(tensor, own[name]) for name, tensor in loaded.state_dict().items())


@every_case
def test_no_other_network_is_taken_for_it(case, embeddings, tmp_path):
    export_reference(built(case, embeddings)[0], tmp_path / "theirs.pth")
    state = torch.load(tmp_path / "theirs.pth", weights_only=True)
    name = case.partition("-")[0]
    assert candidates(state) == [name]
    same = {"jomold": {"lsld"}, "lsld-motion": {"jomold"}}.get(case, set())  # with motion LSLD has JoMoLD's parameters
    for other in REFERENCES.keys() - {name} - same:
        with pytest.raises(UserError, match=f"Use --model {name}"):
            recognise(state, other)


@pytest.mark.parametrize(("other", "num_layers"), [("jomold", 2), ("lsld", 1)])
def test_what_has_the_same_parameters_is_what_one_says_it_is(other, num_layers, tmp_path):
    network = {"jomold": JoMoLD, "lsld": LSLD}[other](
        **SIZES, num_layers=num_layers, **({"motion": True} if other == "lsld" else {})
    )
    export_reference(network, tmp_path / "theirs.pth")
    assert type(import_checkpoint(tmp_path / "theirs.pth")[0]) is not type(network)
    assert type(import_checkpoint(tmp_path / "theirs.pth", other)[0]) is type(network)


def test_what_trains_dhhn_is_not_what_its_authors_save():
    network = DHHN(**SIZES, guide_heads=2)
    assert candidates(to_reference_state(network)) != ["dhhn"]  # the parser alone, and without its idle norms


def test_hans_encoder_in_leap_is_known_without_the_norms_that_it_never_uses():
    state = to_reference_state(LEAP(**SIZES, encoder="han", num_heads=2, label_embeddings=torch.ones(3, 4)))
    assert "MMP.hat_encoder.norm1.weight" not in state
    assert recognise(state).sizes["encoder"] == "han"


def test_leap_without_label_embeddings_is_refused(embeddings, tmp_path):
    export_reference(built("leap", embeddings)[0], tmp_path / "leap.pth")
    with pytest.raises(UserError, match="--label-embeddings FILE"):
        import_checkpoint(tmp_path / "leap.pth", num_heads=2, num_classes=3)
