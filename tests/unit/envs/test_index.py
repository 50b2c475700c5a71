from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from foldgym.envs.chains import Chain, Fact, decide, draw_hops, normalise
from foldgym.envs.index import Document, Index, Nearest, words
from foldgym.seeding import generator

HOME = Document("tusmol", "home of tusmol is pastan .")
SEAT = Document("vissor", "seat of vissor is pastan .")
REGION = Document("pastan", "region of pastan is dalvor .")


def test_rare_word_beats_common_words() -> None:
    # "of" and "is" are in all three documents (idf log 2), "dalvor" in one (idf log 4)
    assert Index([HOME, SEAT, REGION]).search("dalvor", k=3) == [REGION]
    assert Index([HOME, SEAT, REGION]).search("of is dalvor", k=1) == [REGION]


def test_subject_counts_more_than_a_mention() -> None:
    assert Index([HOME, SEAT, REGION]).search("pastan", k=3) == [REGION, HOME, SEAT]
    assert Index([HOME, SEAT, REGION], subject_weight=1.0).search("pastan", k=1) == [HOME]


def test_ties_keep_the_order_of_the_documents() -> None:
    assert Index([HOME, SEAT]).search("pastan", k=2) == [HOME, SEAT]
    assert Index([SEAT, HOME]).search("pastan", k=2) == [SEAT, HOME]


def test_nothing_shared_finds_nothing() -> None:
    assert Index([HOME]).search("elsewhere", k=3) == []
    assert Index([]).search("home", k=3) == []
    assert Index([HOME]).search("", k=3) == []


def test_repeating_a_word_changes_nothing() -> None:
    index = Index([HOME, SEAT, REGION])
    assert index.search("home pastan pastan pastan", k=3) == index.search("home pastan", k=3)


def test_forgiving_index_reads_a_misspelt_subject() -> None:
    documents = [Document("OrderedDict", "OrderedDict x"), Document("UserList", "UserList y")]
    assert Index(documents, forgiving=True).search("OrderDict", k=1) == [documents[0]]
    assert Index(documents).search("OrderDict", k=1) == []


def test_nearest_by_hand() -> None:
    # ^abcd$ = {^ab abc bcd cd$}; ^abce$ shares two of four: dice 2*2/8 = 0.5; ^xyz$ shares none
    assert Nearest(("abce", "xyz"), least=0.4)("abcd") == "abce"
    assert Nearest(("abce", "xyz"), least=0.5)("abcd") == "abcd"
    assert Nearest(("abcf", "abce"))("abcd") == "abcf"  # the first of equals


def test_words_keep_dotted_names_and_drop_points() -> None:
    assert words("module of f is os.path .") == ["module", "of", "f", "is", "os.path"]
    assert words("the end.") == ["the", "end"]


@given(st.text(), st.integers(1, 5))
def test_search_takes_any_text(query: str, k: int) -> None:
    found = Index([HOME, SEAT, REGION], forgiving=True).search(query, k)
    assert len(found) <= k
    assert len(set(found)) == len(found)


CHAIN = Chain((Fact("home", "tusmol", "pastan"), Fact("region", "pastan", "dalvor")), ("dalvor",))


def test_chain_reads_from_the_last_relation_to_the_subject() -> None:
    assert CHAIN.question == "what is the region of home of tusmol ?"
    assert CHAIN.facts[0].query == "tusmol home"


def test_progress_counts_hops_from_the_first() -> None:
    assert CHAIN.progress([]) == 0
    assert CHAIN.progress([REGION]) == 0  # the second fact alone leads nowhere
    assert CHAIN.progress([HOME]) == 1
    assert CHAIN.progress([REGION, SEAT, HOME]) == 2


def test_decisions() -> None:
    rng = generator("test")
    assert decide(CHAIN, 0, 1.0, rng) == ("search", "tusmol home")  # nothing to stop with yet
    assert decide(CHAIN, 1, 1.0, rng) == ("answer", "pastan")
    assert decide(CHAIN, 1, 0.0, rng) == ("search", "pastan region")
    assert decide(CHAIN, 2, 1.0, rng) == ("answer", "dalvor")


def test_stop_is_a_probability() -> None:
    rng = generator("stops")
    stops = sum(decide(CHAIN, 1, 0.65, rng)[0] == "answer" for _ in range(2000))
    assert 1200 < stops < 1400  # mean 1300, standard deviation 21: odds of failing below 1e-5


def test_hops_follow_their_weights() -> None:
    rng = generator("hops")
    drawn = [draw_hops((1, 0, 3), rng) for _ in range(2000)]
    assert set(drawn) == {1, 3}
    assert 1400 < drawn.count(3) < 1600  # mean 1500, standard deviation 19


def test_normalise() -> None:
    assert normalise("  The  Answer. ") == "the answer"
    assert normalise("os.path") == "os.path"
    assert normalise("`OrderedDict`") == "ordereddict"
