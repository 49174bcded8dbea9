"""The vocabulary of the demo's CLIP: a small one, made as OpenAI's was."""

import json
from collections.abc import Iterable

from tokenizers import Tokenizer, trainers
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer


START, END = "<|startoftext|>", "<|endoftext|>"

ENGLISH = """
the of and to in is that it was for on are with as his they be at one have this from or had by hot but some what there
we can out other were all your when up use word how said an each she which do their time if will way about many then
them would write like so these her long make thing see him two has look more day could go come did my sound no most
number who over know water than call first people may down side been now find any new work part take get place made
live where after back little only round man year came show every good me give our under name very through just form
much great think say help low line before turn cause same mean differ move right boy old too does tell sentence set
three want air well also play small end put home read hand port large spell add even land here must big high such
follow act why ask men change went light kind off need house picture try us again animal point mother world near build
self earth father head stand own page should country found answer school grow study still learn plant cover food sun
four thought let keep eye never last door between city tree cross since hard start might story saw far sea draw left
late run while press close night real life few stop open seem together next white children begin got walk example ease
paper often always music those both mark book letter until mile river car feet care second group carry took rain eat
room friend began idea fish mountain north once base hear horse cut sure watch color face wood main enough plain girl
usual young ready above ever red list though feel talk bird soon body dog family direct pose leave song measure state
product black short class wind question happen complete ship area half rock order fire south problem piece told knew
pass farm top whole king size heard best hour better true during hundred remember step early hold west ground interest
reach fast five sing listen six table travel less morning ten simple several toward war lay against pattern slow
center love person money serve appear road map science rule govern pull cold notice voice fall power town fine certain
fly unit lead cry dark machine note wait plan figure star box noun field rest correct able done beauty drive stood
contain front teach week final gave green quick develop sleep warm free minute strong special mind behind clear tail
produce fact street inch lot nothing course stay wheel full force blue object decide surface deep moon island foot yet
busy test record boat common gold possible plane age dry wonder laugh thousand ago ran check game shape yes hot miss
brought heat snow bed bring sit perhaps fill east weight language among cat flower leaf painting drawing photograph
texture satellite aircraft cartoon rendering close cropped bright blurry grey orange purple pink brown yellow
"""
"""Common words, so that other text than captions splits into few tokens, too."""


def train_tokenizer(captions: Iterable[str], num_merges: int = 800) -> CLIPTokenizer:
    """Learn merges from captions and common English.

    The vocabulary is laid out like OpenAI's: 256 bytes, the same bytes at the end of a word, one token per merge,
    start, end. As it has all bytes, it can spell any text. Text is lower-cased.

    Args:
        captions: the captions to spell in few tokens.
        num_merges: maximum number of merges.

    Returns:
        A tokenizer that surrounds text with start and end and pads with end, for at most 77 tokens.
    """
    splitter = CLIPTokenizer().backend_tokenizer
    learner = Tokenizer(BPE(end_of_word_suffix="</w>"))
    learner.normalizer, learner.pre_tokenizer = splitter.normalizer, splitter.pre_tokenizer
    alphabet = sorted(ByteLevel.alphabet())
    # The size counts the bytes and the word-final bytes that the trainer has met.
    trainer = trainers.BpeTrainer(
        vocab_size=2 * len(alphabet) + num_merges,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator([*captions, ENGLISH], trainer)
    merges = [tuple(merge) for merge in json.loads(learner.to_str())["model"]["merges"]][:num_merges]

    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet), *map("".join, merges), START, END]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    # Pairs are what tokenizers take; the annotation of CLIPTokenizer names only the lines of a merges file.
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)  # type: ignore[arg-type]
