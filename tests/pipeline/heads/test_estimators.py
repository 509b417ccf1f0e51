"""Classifiers against scikit-learn, against cosines written out, and against Hugging Face's own arithmetic."""

from __future__ import annotations

import builtins
import copy
import pickle
import zlib

import numpy as np
import pytest
import scipy.stats
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, normalize
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

from vidclip.pipeline.encoders import transformers_embedder
from vidclip.pipeline.heads import (
    CLASSIFIERS,
    LDAClassifier,
    LinearProbe,
    OrthogonalClassifier,
    RandomClassifier,
    TextClassifier,
    classifier_weights,
)
from vidclip.pipeline.scoring import cosine_scores, unit

NAMES = ["archery", "baby crawling", "clapping", "diving", "eating"]


@pytest.fixture(autouse=True)
def one_thread():
    """The problems are tiny: threads that wait for one another take longer than the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(threads)


def wave(labels):
    """[C, 8]: a vector that the text of a label decides."""
    seeds = [zlib.crc32(str(label).encode()) for label in labels]
    return np.stack([np.random.default_rng(seed).standard_normal(8) for seed in seeds])


def some_videos(rng, *, classes=5, per_class=20, dimension=16, noise=1.0):
    """(X, labels, centers): clusters around centers, not unit."""
    centers = rng.standard_normal((classes, dimension))
    labels = rng.permutation(np.repeat(np.arange(classes), per_class))
    return centers[labels] + noise * rng.standard_normal((len(labels), dimension)), labels, centers


# --- the estimator contract ---


def known_failures(estimator):
    if isinstance(estimator, OrthogonalClassifier) and not estimator.adapt:
        reason = "the check has more classes than dimensions: no rows are orthogonal there"
        return dict.fromkeys(
            (
                "check_estimators_overwrite_params",
                "check_estimators_fit_returns_self",
                "check_readonly_memmap_input",
                "check_classifiers_classes",
                "check_classifiers_train",
                "check_fit2d_1feature",
            ),
            reason,
        )
    return {}


@parametrize_with_checks(
    [
        TextClassifier(wave, adapt=True, max_iter=20),
        RandomClassifier(),
        RandomClassifier(adapt=True, dimension=8, max_iter=20),
        OrthogonalClassifier(),
        OrthogonalClassifier(adapt=True, dimension=8, max_iter=20),
        LDAClassifier(),
        LDAClassifier(intercept=False),
        LinearProbe(),
    ],
    expected_failed_checks=known_failures,
)
def test_scikit_learn_s_own_checks(estimator, check):
    check(estimator)


def test_settings_can_be_searched_in_a_pipeline(rng):
    X, labels, centers = some_videos(rng, noise=1.0)
    y = np.array(NAMES)[labels]
    text = TextClassifier(dict(zip(NAMES, centers, strict=True)), adapt=True, max_iter=10)
    search = GridSearchCV(
        make_pipeline(FunctionTransformer(unit), text), {"textclassifier__weight_decay": [1e-4, 1e4]}, cv=2
    )
    search.fit(X, y)
    assert search.score(X, y) > 0.8
    probe = GridSearchCV(LinearProbe(), {"C": [0.01, 0.316]}, cv=2).fit(X, y)
    assert set(probe.predict(X)) <= set(NAMES)


# --- text ---


def test_text_scores_are_the_scaled_cosines(rng):
    X, labels, centers = some_videos(rng)
    text = TextClassifier(lambda labels: centers[labels], scale=30.0).fit(7 * X, labels)
    expected = 30 * cosine_scores(X, centers)
    assert_allclose(text.decision_function(X), expected, atol=1e-4)
    assert_array_equal(text.predict(X), expected.argmax(axis=1))
    probabilities = text.predict_proba(X)
    assert probabilities.dtype == np.float64
    assert_allclose(probabilities, scipy.special.softmax(expected.astype(float), axis=1), atol=1e-4)
    assert_allclose(text.weights_, centers.astype(np.float32))
    assert text.projection_ is None


def test_two_classes_have_one_score(rng):
    X, labels, centers = some_videos(rng, classes=2)
    text = TextClassifier(lambda labels: centers[labels]).fit(X, labels)
    cosines = 100 * cosine_scores(X, centers)
    assert_allclose(text.decision_function(X), cosines[:, 1] - cosines[:, 0], atol=1e-3)
    assert text.predict_proba(X).shape == (len(X), 2)


def test_classes_without_videos_can_be_predicted(rng):
    X, labels, centers = some_videos(rng, noise=0.1)
    by_name = dict(zip(NAMES, centers, strict=True))
    order = NAMES[::-1]
    y = np.array(NAMES)[labels]
    seen = labels < 2
    text = TextClassifier(by_name, names=order).fit(X[seen], y[seen])
    assert text.classes_.tolist() == order
    assert text.score(X, y) == 1
    assert_array_equal(text.decision_function(X).argmax(axis=1), 4 - labels)
    unlabeled = TextClassifier(by_name, names=order).fit(X)
    assert_array_equal(unlabeled.predict(X), y)


def test_text_errors(rng):
    X, labels, centers = some_videos(rng)
    y = np.array(NAMES)[labels]
    with pytest.raises(ValueError, match="TextClassifier needs embed"):
        TextClassifier().fit(X, y)
    with pytest.raises(ValueError, match="no vector for 1 of 5 classes, 'eating' the first"):
        TextClassifier(dict(zip(NAMES[:4], centers, strict=False))).fit(X, y)
    with pytest.raises(
        ValueError, match=r"rows of the classifier have 8 dimensions and the videos 16.*adapt=True"
    ):
        TextClassifier(wave).fit(X, y)
    with pytest.raises(ValueError, match="2 labels that are not among the 3 names, 'd"):
        first = y.tolist().index("diving")
        order = [first, *range(len(y))]
        TextClassifier(wave, names=NAMES[:3]).fit(X[order], y[order])
    with pytest.raises(ValueError, match="'clapping' more than once"):
        TextClassifier(wave, names=[*NAMES, "clapping"]).fit(X, y)
    with pytest.raises(ValueError, match=r"embed must give \[C, D'\] for 5 classes, got the shape \(4, 8\)"):
        TextClassifier(lambda labels: wave(labels[1:])).fit(X, y)
    with pytest.raises(ValueError, match="class 2 a vector that is zero or not finite"):
        TextClassifier(lambda _: centers * [[1], [1], [0], [1], [1]]).fit(X, y)
    with pytest.raises(ValueError, match="requires y to be passed"):
        TextClassifier(wave, names=NAMES, adapt=True).fit(X)
    with pytest.raises(ValueError, match="scale must be above 0"):
        TextClassifier(wave, scale=0).fit(X, y)


# --- a learned projection ---


def test_a_projection_not_yet_trained_changes_nothing(rng):
    X, labels, centers = some_videos(rng)
    for frozen in (
        TextClassifier(lambda labels: centers[labels]),
        RandomClassifier(random_state=3),
        OrthogonalClassifier(random_state=3),
    ):
        adapted = clone(frozen).set_params(adapt=True, max_iter=0).fit(X, labels)
        assert_allclose(adapted.decision_function(X), frozen.fit(X, labels).decision_function(X), atol=1e-9)
        assert_array_equal(adapted.projection_, np.eye(16))
        assert adapted.n_iter_ == 0


@pytest.mark.parametrize("rows", [5, 40])
def test_between_other_dimensions_it_begins_semi_orthogonal(rng, rows):
    X, labels, _ = some_videos(rng)
    adapted = RandomClassifier(adapt=True, dimension=rows, max_iter=0, random_state=1).fit(X, labels)
    P = adapted.projection_
    assert P.shape == (16, rows)
    assert_allclose(P.T @ P if rows < 16 else P @ P.T, np.eye(min(16, rows)), atol=1e-12)


@pytest.mark.parametrize(
    "frozen",
    [
        TextClassifier(wave, random_state=0),
        RandomClassifier(dimension=8, random_state=0),
        OrthogonalClassifier(dimension=8, random_state=0),
    ],
)
def test_adapting_helps_on_videos_not_seen(rng, frozen):
    X, labels, _ = some_videos(rng, per_class=60)
    before, after = (
        clone(frozen).set_params(adapt=True, max_iter=n).fit(X[:150], labels[:150]) for n in (0, 50)
    )
    assert after.score(X[150:], labels[150:]) > before.score(X[150:], labels[150:]) + 0.3
    assert_array_equal(before.weights_, after.weights_)


def test_adapting_minimises_what_it_says(rng):
    """The objective, written out and followed by finite differences, is flat where training ends."""
    X, labels, centers = some_videos(rng, classes=3, dimension=4, noise=2.0)
    decay, scale = 0.1, 5.0

    def objective(change):
        cosines = normalize(X @ (np.eye(4) + change)) @ normalize(centers).T
        logs = scipy.special.log_softmax(scale * cosines, axis=1)
        return -logs[np.arange(len(X)), labels].mean() + decay * (change**2).sum()

    text = TextClassifier(
        lambda labels: centers[labels], scale=scale, adapt=True, weight_decay=decay, max_iter=200
    ).fit(X, labels)
    learned = text.projection_ - np.eye(4)
    steps = 1e-5 * np.eye(16).reshape(16, 4, 4)
    slopes = [(objective(learned + step) - objective(learned - step)) / 2e-5 for step in steps]
    start = [(objective(step) - objective(-step)) / 2e-5 for step in steps]
    assert np.linalg.norm(slopes) < 1e-3 < 0.05 < np.linalg.norm(start)
    assert_allclose(
        text.decision_function(X),
        scale * normalize(X @ text.projection_) @ normalize(centers).T,
        atol=1e-5,
    )


def test_decay_holds_the_projection_where_it_began(rng):
    X, labels, _ = some_videos(rng)
    moved = [
        np.linalg.norm(
            RandomClassifier(adapt=True, weight_decay=decay, random_state=0).fit(X, labels).projection_
            - np.eye(16)
        )
        for decay in (1e-4, 1e-2, 1.0, 1e4)
    ]
    assert moved == sorted(moved, reverse=True)
    assert moved[-1] < 1e-2


def test_adapting_is_repeatable_and_leaves_torch_s_generator_alone(rng):
    X, labels, _ = some_videos(rng)
    before = torch.random.get_rng_state()
    one, two = (TextClassifier(wave, adapt=True, random_state=5).fit(X, labels) for _ in range(2))
    assert_array_equal(one.projection_, two.projection_)
    assert torch.equal(torch.random.get_rng_state(), before)
    other = TextClassifier(wave, adapt=True, random_state=6).fit(X, labels)
    assert not np.allclose(one.projection_, other.projection_)


def test_adapting_errors(rng):
    X, labels, _ = some_videos(rng)
    with pytest.raises(ValueError, match="max_iter must be at least 0, got -1"):
        RandomClassifier(adapt=True, max_iter=-1).fit(X, labels)
    with pytest.raises(ValueError, match="weight_decay must be at least 0"):
        RandomClassifier(adapt=True, weight_decay=-1.0).fit(X, labels)
    with pytest.raises(ValueError, match="ran away with scale"):
        RandomClassifier(adapt=True, scale=1e39, random_state=0).fit(X, labels)


# --- rows of noise ---


def test_random_rows_are_standard_normal():
    rows = classifier_weights("random", n_classes=100, dimension=512, seed=1)
    assert rows.shape == (100, 512)
    assert rows.dtype == np.float32
    assert scipy.stats.kstest(rows.ravel(), "norm").pvalue > 0.01
    assert abs(np.corrcoef(rows[:, :-1].ravel(), rows[:, 1:].ravel())[0, 1]) < 0.02


def test_noise_is_the_seed_s_whatever_else_is_given(rng):
    X, labels, centers = some_videos(rng)
    size = {"n_classes": 5, "dimension": 16}
    for kind in ("random", "linear", "orthogonal"):
        alone = classifier_weights(kind, **size, seed=4)
        with_all = classifier_weights(
            kind, **size, seed=4, features=X, labels=labels, text=centers, max_per_class=2
        )
        assert_array_equal(alone, with_all)
        assert not np.allclose(alone, classifier_weights(kind, **size, seed=5))
    assert_array_equal(
        classifier_weights("random", **size, seed=4), classifier_weights("linear", **size, seed=4)
    )
    fitted = RandomClassifier(random_state=4).fit(X, labels)
    assert_array_equal(fitted.weights_, classifier_weights("random", **size, seed=4))
    assert_allclose(fitted.decision_function(X), 100 * cosine_scores(X, fitted.weights_), atol=1e-3)


@pytest.mark.parametrize(("classes", "dimension"), [(3, 64), (64, 64), (101, 512)])
def test_orthogonal_rows_are_orthonormal(classes, dimension):
    rows = classifier_weights("orthogonal", n_classes=classes, dimension=dimension)
    assert_allclose(rows @ rows.T, np.eye(classes), atol=1e-5)


def test_more_classes_than_dimensions(rng):
    X, labels, _ = some_videos(rng, classes=6, dimension=4)
    with pytest.raises(ValueError, match="6 classes cannot have orthogonal rows in 4 dimensions"):
        OrthogonalClassifier().fit(X, labels)
    wider = OrthogonalClassifier(adapt=True, dimension=6, random_state=0).fit(X, labels)
    assert_allclose(wider.weights_ @ wider.weights_.T, np.eye(6), atol=1e-5)
    with pytest.raises(ValueError, match="rows of the classifier have 6 dimensions and the videos 4"):
        OrthogonalClassifier(dimension=6).fit(X, labels)


# --- discriminant analysis ---


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lda_is_scikit_learn_s(rng, dtype):
    X, labels, _ = some_videos(rng, noise=2.0)
    X, y = X.astype(dtype), np.array(NAMES)[labels]
    reference = LinearDiscriminantAnalysis().fit(X, y)
    ours = LDAClassifier().fit(X, y)
    assert_array_equal(ours.weights_, reference.coef_)
    assert_array_equal(ours.predict(X), reference.predict(X))
    assert_array_equal(ours.predict_proba(X), reference.predict_proba(X))
    assert_array_equal(ours.decision_function(X), reference.decision_function(X))
    rows = classifier_weights("lda", n_classes=5, dimension=16, features=X, labels=labels)
    assert_array_equal(rows, reference.coef_.astype(np.float32))


def test_lda_of_two_classes_has_two_rows(rng):
    X, labels, _ = some_videos(rng, classes=2, noise=2.0)
    reference = LinearDiscriminantAnalysis().fit(X, labels)
    both = np.concatenate([-reference.coef_, reference.coef_])
    assert_array_equal(LDAClassifier().fit(X, labels).weights_, both)
    assert_array_equal(LDAClassifier().fit(X, labels).decision_function(X), reference.decision_function(X))
    cosine = LDAClassifier(intercept=False).fit(X, labels)
    assert_allclose(cosine.decision_function(X), 200 * cosine_scores(X, reference.coef_)[:, 0], atol=1e-3)
    assert_allclose(
        classifier_weights("lda", n_classes=2, dimension=16, features=X, labels=labels), both, rtol=1e-6
    )


def test_lda_as_the_paper_freezes_it(rng):
    X, labels, _ = some_videos(rng)
    frozen = LDAClassifier(intercept=False, scale=20.0).fit(X, labels)
    coef = LinearDiscriminantAnalysis().fit(X, labels).coef_
    assert_allclose(frozen.decision_function(X), 20 * cosine_scores(X, coef), atol=1e-4)


def test_lda_draws_so_many_videos_of_a_class(rng):
    X, labels, _ = some_videos(rng, per_class=20)
    X, labels = np.concatenate([X, X[labels == 0][:1]]), np.append(labels, 5)  # class 5 has one video
    drawn = LDAClassifier(max_per_class=7, random_state=1).fit(X, labels)
    assert np.bincount(labels[drawn.rows_]).tolist() == [7] * 5 + [1]
    assert len(set(drawn.rows_)) == 36
    reference = LinearDiscriminantAnalysis().fit(X[drawn.rows_], labels[drawn.rows_])
    assert_array_equal(drawn.weights_, reference.coef_)
    assert_array_equal(drawn.predict(X), reference.predict(X))
    rows = classifier_weights(
        "lda", n_classes=6, dimension=16, features=X, labels=labels, max_per_class=7, seed=1
    )
    assert_array_equal(rows, reference.coef_.astype(np.float32))
    assert clone(drawn).fit(X, labels).rows_.tolist() == drawn.rows_.tolist()
    assert (
        LDAClassifier(max_per_class=7, random_state=2).fit(X, labels).rows_.tolist() != drawn.rows_.tolist()
    )
    assert len(LDAClassifier(max_per_class=None).fit(X, labels).rows_) == 101


def test_lda_errors(rng):
    X, labels, _ = some_videos(rng)
    with pytest.raises(ValueError, match=r"more videos than classes, and has 5 videos of 5.*text classifier"):
        LDAClassifier(max_per_class=1).fit(X, labels)
    with pytest.raises(ValueError, match="has 5 videos of 5"):
        LDAClassifier().fit(X[:5], np.arange(5))
    with pytest.raises(ValueError, match="max_per_class must be at least 1"):
        LDAClassifier(max_per_class=0).fit(X, labels)


# --- the linear probe ---


@pytest.mark.parametrize("classes", [2, 5])
def test_the_probe_is_logistic_regression_on_embeddings_ten_long(rng, classes):
    X, labels, _ = some_videos(rng, classes=classes, noise=3.0)
    reference = LogisticRegression(C=0.316, max_iter=1000).fit(10 * normalize(X), labels)
    probe = LinearProbe().fit(X, labels)
    assert_allclose(probe.decision_function(X), reference.decision_function(10 * normalize(X)), rtol=1e-6)
    assert_allclose(probe.predict_proba(3 * X), reference.predict_proba(10 * normalize(X)), rtol=1e-6)
    assert_array_equal(probe.predict(X), reference.predict(10 * normalize(X)))
    both = reference.coef_ if classes > 2 else np.concatenate([-reference.coef_, reference.coef_])
    assert_allclose(probe.weights_, both, rtol=1e-6)


# --- what all refuse ---


@pytest.mark.parametrize(
    "estimator",
    [
        TextClassifier(wave, adapt=True),
        RandomClassifier(),
        OrthogonalClassifier(),
        LDAClassifier(),
        LinearProbe(),
    ],
    ids=lambda e: type(e).__name__,
)
def test_one_class_and_missing_numbers(rng, estimator):
    X, labels, _ = some_videos(rng)
    with pytest.raises(ValueError, match="at least two classes, got 1 class"):
        clone(estimator).fit(X, np.zeros_like(labels))
    X[3, 2] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        clone(estimator).fit(X, labels)


def test_weights_errors(rng):
    X, labels, centers = some_videos(rng)

    def make(kind, **more):
        return classifier_weights(kind, **{"n_classes": 5, "dimension": 16, **more})

    with pytest.raises(ValueError, match="kind must be one of text, random, orthogonal, lda, linear"):
        make("bert")
    with pytest.raises(ValueError, match="n_classes must be at least 1"):
        make("random", n_classes=0)
    with pytest.raises(ValueError, match="needs text"):
        make("text")
    with pytest.raises(ValueError, match=r"for 5 classes, got the shape \(3, 16\)"):
        make("text", text=centers[:3])
    with pytest.raises(ValueError, match="needs features"):
        make("lda", labels=labels)
    with pytest.raises(ValueError, match=r"1 of 6 classes have no videos .*class 5 the first"):
        make("lda", features=X, labels=labels, n_classes=6)
    with pytest.raises(ValueError, match=r"2 of 5 classes have no videos .*class 1 the first"):
        kept = (labels != 1) & (labels != 3)
        make("lda", features=X[kept], labels=labels[kept])
    with pytest.raises(ValueError, match="there are the classes 0 to 3"):
        make("lda", features=X, labels=labels, n_classes=4)
    with pytest.raises(ValueError, match="at least two classes"):
        make("lda", features=X, labels=np.zeros_like(labels), n_classes=1)
    with pytest.raises(ValueError, match="whole numbers"):
        make("lda", features=X, labels=labels.astype(float))
    with pytest.raises(ValueError, match=r"features must be \[N, 16\]"):
        make("lda", features=X[:, :8], labels=labels)
    with pytest.raises(ValueError, match="labels have the shape"):
        make("lda", features=X, labels=labels[1:])
    with pytest.raises(ValueError, match="features of video 7 are not finite"):
        X[7, 0] = np.inf
        make("lda", features=X, labels=labels)


def test_every_kind_has_rows(rng):
    X, labels, _ = some_videos(rng)
    text = rng.standard_normal((5, 24))  # of another encoder
    for kind in CLASSIFIERS:
        rows = classifier_weights(kind, n_classes=5, dimension=16, features=X, labels=labels, text=text)
        assert rows.shape == (5, 24 if kind == "text" else 16)
        assert rows.dtype == np.float32


# --- text encoders of Hugging Face ---


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory):
    """A DistilBERT with random weights and words enough for NAMES."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("bert")
    words = sorted({word for name in NAMES for word in name.split()} | {"a", "video", "of"})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    tokenizer = Tokenizer(WordPiece({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    config = transformers.DistilBertConfig(
        vocab_size=len(vocabulary), dim=24, n_heads=2, n_layers=2, hidden_dim=32, max_position_embeddings=8
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.DistilBertModel(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_names_are_encoded_as_one_by_one_without_padding(bert_folder, pooling):
    from transformers import DistilBertModel

    encoder = DistilBertModel.from_pretrained(bert_folder).eval()
    vocabulary = (bert_folder / "vocab.txt").read_text().split("\n")
    expected = []
    for name in NAMES:
        ids = [vocabulary.index(word) for word in ["[CLS]", "a", "video", "of", *name.split(), "[SEP]"]]
        with torch.inference_mode():
            states = encoder(torch.tensor([ids])).last_hidden_state[0].numpy()
        expected.append(states[0] if pooling == "cls" else states.mean(axis=0))
    before = torch.random.get_rng_state()
    embed = transformers_embedder(bert_folder, "a video of {}", batch_size=2, pooling=pooling)
    found = embed(NAMES)
    assert found.shape == (5, 24)
    assert found.dtype == np.float32
    assert_allclose(found, expected, atol=1e-5)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert_array_equal(pickle.loads(pickle.dumps(embed))(NAMES), found)


def test_another_encoder_s_text_needs_a_projection_and_works_with_one(bert_folder, rng):
    X, labels, _ = some_videos(rng, noise=0.5)
    y = np.array(NAMES)[labels]
    embed = transformers_embedder(bert_folder)
    assert copy.deepcopy(embed) is embed  # a search must not copy the weights
    assert str(bert_folder) in repr(embed)
    with pytest.raises(ValueError, match="24 dimensions and the videos 16"):
        TextClassifier(embed).fit(X, y)
    assert clone(TextClassifier(embed, adapt=True)).fit(X, y).score(X, y) > 0.9


def test_embedder_errors(bert_folder, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="is no folder"):
        transformers_embedder(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"lacks config\.json"):
        transformers_embedder(tmp_path)
    (tmp_path / "config.json").write_bytes((bert_folder / "config.json").read_bytes())
    with pytest.raises(FileNotFoundError, match="lacks weights"):
        transformers_embedder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(FileNotFoundError, match="lacks a tokenizer"):
        transformers_embedder(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((bert_folder / name).read_bytes())
    with pytest.raises(ValueError, match=f"text encoder in {tmp_path} cannot be read"):
        transformers_embedder(tmp_path)
    with pytest.raises(ValueError, match="9 tokens, and the encoder in .* reads at most 8"):
        transformers_embedder(bert_folder, "a video of a video of {}")(NAMES[:1])
    with pytest.raises(ValueError, match="a prompt needs one {}"):
        transformers_embedder(bert_folder, "a video")
    with pytest.raises(ValueError, match="pooling must be cls or mean"):
        transformers_embedder(bert_folder, pooling="max")
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        transformers_embedder(bert_folder, batch_size=0)

    real = builtins.__import__

    def without(name, *rest, **more):
        if name == "transformers":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'vidclip\[hf\]'"):
        transformers_embedder(bert_folder)


def test_weights_of_another_model_are_refused(bert_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    for path in bert_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(bert_folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "layer.1" not in name}
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lack 16 of the encoder's tensors, transformer\.layer\.1"):
        transformers_embedder(tmp_path)
