"""Keyphrases as what stands between the words that every review has, in five languages."""

from collections import Counter
from functools import cache, lru_cache

import regex

from stages.enrich.text.languages import detect_language, stemmer, stop_words
from stages.enrich.text.words import LETTER, WORD, plain

REVIEW_WORDS = {
    "en": """
        absolutely actual add advertised ago agree amazing amazon amount arrive average awesome
        back bad barely basic believe best better bit bought box brand bring buy case change
        cheap choice choose close come company compare complaint complete continue cost couple
        crazy customer cut day deal decent decide deliver difference difficult disappointed
        dollar due effect end enjoy entire exact excellent exchange expect expensive experience
        extra extreme fact fairly fantastic favorite feel felt final find fine finish fit
        forever found fun gave general give glad good great guess half happy hard help high hold
        honest hope hour huge idea immediate important impress improvement issue item job kind
        late leave left line lot love made main make matter mean minor minute money month need
        nice normal note notice opinion order package part past people perfect personal pick
        piece place pleased plenty point prefer pretty price problem product provide purchase
        put quality quick rate ready real reason reasonable received recent recommend refund
        regular replace rest result return review satisfied sell seller set ship show similar
        simple single slight sold sort special standard star start stay stop store stuff super
        suppose surprise take tend terrible test thing thought time today told total true try
        turn type typical unit use version wait want warranty waste wear week wonderful work
        worse worth wow wrong year yesterday""",
    "de": """
        absolut amazon anfang angekommen arbeit artikel bestellen bestellt bestens dinge echt
        ehrlich empfehlen empfehlung ende erfahrung erhalten ersatz fazit fehler finde freude
        froh funktioniert gefallen gefällt gekauft geld genau gerne glücklich gut hersteller
        ideal jahr kauf kaufen klasse kommen kosten kunde leider lieben lieferung machen macht
        marke minute monat nutzen paket passen perfekt preis problem produkt punkt qualität
        richtig sache schade schlecht schön service stern stunde stück super tag teil teuer toll
        top unterschied verkäufer verpackung versand verwenden war weiterempfehlen wert woche
        wunderbar zeit zufrieden""",
    "es": """
        absolutamente amazon artículo bien bonito bueno caja calidad cambio caro cliente compra
        comprar compré contento cosa costar decepcionado devolver diferencia dinero día encanta
        encantar entrega enviar envío esperar estrella excelente experiencia fantástico feliz
        funcionar genial gustar hora increíble llegar llegó malo marca mejor mes minuto
        necesitar opinión paquete parte pedido perfecto pieza precio problema producto quedar
        razón recibir recomendar resultado satisfecho semana servicio tiempo tienda tipo usar
        uso valer vendedor vez""",
    "fr": """
        absolument achat acheter acheté adorer aimer amazon arriver article attendre avis beau
        bien bon boîte cher chose client colis commande commander content coûter demande
        différence déçu effet excellent expérience fantastique façon génial heure heureux jour
        livraison magasin marque mauvais merveilleux minute mois neuf note offrir parfait partie
        payer penser pièce point prix problème produit qualité raison rapport recevoir
        recommander reçu résultat satisfait semaine service sorte super temps trouver type
        utiliser vendeur vraiment""",
    "it": """
        acquistare acquisto amazon arrivare articolo assolutamente bello bene buono caro cliente
        comprare confezione consegna consigliare contento cosa costare deluso denaro differenza
        eccellente esperienza fantastico felice funzionare giorno mese migliore minuto negozio
        ora ordinare ordine ottimo pacco parte perfetto pezzo prezzo problema prodotto qualità
        ragione recensione ricevere risultato scatola servizio settimana soddisfatto soldi
        spedizione stella tempo tipo trovare usare uso venditore""",
}
"""Words that reviews have whatever is reviewed, any inflection: they end a phrase as stop words do.

The English ones were drawn from the words of more than one in two hundred reviews of instruments
and of beauty products alike: those that cannot say for whom, when or why, and their like. The
others are translations of them.
"""

_TOKEN = regex.compile(rf"{WORD}|[^{LETTER}_\s]", regex.V1)


def chunk_phrases(text: str, max_words: int) -> list[str]:
    """Return the phrases of a text, those said most often first, then in the order of the text.

    A phrase is a run of words between punctuation, stop words and `REVIEW_WORDS`, as the candidates
    of RAKE are (Rose, Engel, Cramer and Cowley, "Automatic Keyword Extraction from Individual
    Documents", 2010); of a longer run, every `max_words` words in a row. The language is the one
    of whose stop words the text holds most, English where that tells nothing.
    """
    tokens = _TOKEN.findall(plain(text))
    language = detect_language(tokens)
    ends = [_ends_phrase(token, language) for token in tokens]
    phrases: Counter[str] = Counter()
    start = 0
    for at in range(len(tokens) + 1):
        if at < len(tokens) and not ends[at]:
            continue
        last = max(start + 1, at - max_words + 1)
        phrases.update(" ".join(tokens[n : min(n + max_words, at)]) for n in range(start, last))
        start = at + 1
    del phrases[""]
    return [phrase for phrase, _ in phrases.most_common()]


@cache
def _review_stems(language: str) -> frozenset[str]:
    return frozenset(stemmer(language).stemWords(REVIEW_WORDS[language].split()))


@lru_cache(maxsize=1 << 17)
def _ends_phrase(token: str, language: str) -> bool:
    """Return whether a token is no word of a phrase; asked of few different tokens, many times."""
    common = stop_words(language)
    return (
        not any(character.isalpha() for character in token)
        or token in common
        or token.partition("'")[0] in common
        or stemmer(language).stemWord(token) in _review_stems(language)
    )
