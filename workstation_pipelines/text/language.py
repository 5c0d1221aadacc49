"""Guesses a text's language from its script and its commonest words; says nothing rather than something doubtful."""

# ruff: noqa: RUF001 - letters that look like Latin ones are the point of a list of Cyrillic words
from __future__ import annotations

import re
from collections import Counter

_SAMPLE_CHARS = 700
_LEAST_HITS = 3
_LEAST_SHARE = 0.12
_LEAST_LEAD = 1.25

# The commonest function words, so chosen that each language has several which its neighbours lack.
_STOP_WORDS = {
    "en": "the of and to in is that for it with as was on be by are this from at or have not which you an were has "
    "can must will your all when if been they their we our its should may each more any these after into",
    "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er "
    "hat dass sie nach wird bei einer um am sind noch wie einem über einen so zum war haben nur oder aber vor zur bis "
    "mehr durch wir ich kann müssen wenn ihre ihr unsere",
    "fr": "de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se ce il sont avec son ou "
    "être aux cette mais comme nous leur ses sa ont elle vous été était tout deux fait votre doit sans",
    "es": "de la que el en y a los se del las un por con no una su para es al lo como más o pero sus le ha me si sin "
    "sobre este ya entre cuando todo esta ser son dos también fue había era muy años hasta desde está debe usted",
    "it": "di e il la che in un a per è una sono del non le si della con i da al dei come ha più o nel alla ma anche "
    "gli delle su questo lo dal se ed essere stato suo nella ai sua degli questa tra cui hanno deve può ogni",
    "pt": "de a o que e do da em um para é com não uma os no se na por mais as dos como mas foi ao ele das tem à seu "
    "sua ou ser quando muito há nos já está eu também só pelo pela até isso ela entre era depois você são deve",
    "ca": "de la i el que a en per les els amb és del no una un al es com més dels o però va són seva aquest aquesta "
    "pot s'ha també ha han ser fins molt sense entre",
    "nl": "de van een het en in is dat op te zijn met voor niet aan er om ook als dan door maar bij uit nog worden "
    "naar heeft hebben wordt of deze dit was tot over zich ze hun kan meer geen wij je moet",
    "sv": "och i att det som en på är av för med till den har de inte om ett han men var sig från vi så kan när år "
    "ska eller där hade också efter vid denna detta mycket alla blir måste",
    "da": "og i at det er en til af på for med de den som der ikke han et har fra var kan vi om men ud så skal sig "
    "efter også eller ved hvor når blev være mod nogle havde meget mellem denne dette",
    "nb": "og i det er på en til som av for at med de har den ikke fra et om han var kan vi men så ble skal etter seg "
    "også eller ved hvor når være mot noen hadde mye mellom denne dette må",
    "fi": "ja on ei se että oli hän mutta ovat kun joka niin myös tai sen ole kuin jos voi sekä jotka mukaan hänen "
    "vain olla siitä mitä ennen jälkeen sitä tämä ollut kanssa",
    "pl": "w i na z się nie do to że jest o a jak po od za przez dla są był ale czy tym co jego oraz przy może także "
    "być które który która ich tylko tego już lub będzie można",
    "cs": "a v se na je že s z do o to i za k jako by po ve ale pro jsou si jeho od které nebo byl při není který "
    "bylo však také až podle jen která může být již jak před",
    "sk": "a v sa na je že s z do o to za aby po vo ale pre sú si jeho od ktoré alebo bol pri nie ktorý bolo však aj "
    "až podľa len ktorá môže byť už ako pred",
    "hu": "a az és hogy nem is egy ez meg volt de van el csak már mint ha azt vagy még minden ki lesz kell lehet más "
    "után között szerint ezt amely amikor",
    "ro": "de și în a la cu pe o din care nu este să un că mai se pentru ce sunt sau fi ca al au lui dar prin după "
    "fost ale această acest când dacă poate trebuie",
    "tr": "ve bir bu da de için ile olarak çok daha gibi olan ne kadar var en sonra ancak değil her ise veya hem ama "
    "olduğu tarafından göre önce şekilde",
    "ru": "и в не на что с он как это по но из у за от так для же к о все его она мы вы был было или если только бы "
    "когда также при до может который чтобы этот",
    "uk": "і в не на що з він як це та до по але із у за від так для й про все його вона ми ви був було або якщо "
    "тільки коли також при може який щоб цей є",
    "bg": "и на в да не се за от че с по е са като това към до или но със този може беше през които който след също "
    "ще тези има как",
    "ar": "في من على أن إلى عن مع هذا هذه التي الذي كان ما لا أو بعد قد كل بين ذلك",
    "fa": "و در به از که این را با است برای آن یک تا هم می شود بر یا نیز بود",
}
_SCRIPTS = (
    ("ja", re.compile(r"[\u3041-\u30ff]")),
    ("ko", re.compile(r"[\uac00-\ud7a3]")),
    ("zh", re.compile(r"[\u4e00-\u9fff]")),
    ("el", re.compile(r"[\u0370-\u03ff]")),
    ("he", re.compile(r"[\u05d0-\u05ea]")),
    ("th", re.compile(r"[\u0e01-\u0e3a]")),
)
_BEYOND_LATIN = re.compile(r"[\u0370-\u1dff\u3041-\ud7a3]")
_SCRIPT_SHARE = 0.2


def _languages_of_words() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for code, words in _STOP_WORDS.items():
        for word in set(words.split()):
            found[word] = (*found.get(word, ()), code)
    return found


_LANGUAGES_OF = _languages_of_words()


def detect_language(text: str) -> str | None:
    """Return the ISO 639-1 code of the language most of `text` is written in, or None when unsure.

    Judged by a sample of 700 characters. Knows 29 languages; about another one it is mostly silent.
    """
    sample = _sample(text)
    if _BEYOND_LATIN.search(sample):
        for code, letters in _SCRIPTS:
            if len(letters.findall(sample)) > _SCRIPT_SHARE * len(sample):
                return code
    # A word with a comma on it goes uncounted; splitting by pattern takes five times as long.
    words = sample.lower().split()
    found = [codes for codes in map(_LANGUAGES_OF.get, words) if codes]
    if len(found) < _LEAST_HITS or len(found) < _LEAST_SHARE * len(words):
        return None
    return _clear_winner(found)


def _clear_winner(found: list[tuple[str, ...]]) -> str | None:
    points: dict[str, float] = {}
    for codes, times in Counter(found).items():
        # A word that six languages share tells less than one that a single language has.
        share = times / len(codes)
        for code in codes:
            points[code] = points.get(code, 0.0) + share
    best, *others = sorted(points, key=points.__getitem__, reverse=True)[:2]
    return best if not others or points[best] >= _LEAST_LEAD * points[others[0]] else None


def _sample(text: str) -> str:
    if len(text) <= _SAMPLE_CHARS:
        return text
    # Past the letterhead or the table of contents, where there is text enough to skip them.
    start = min(len(text) - _SAMPLE_CHARS, len(text) // 5)
    return text[start : start + _SAMPLE_CHARS]
