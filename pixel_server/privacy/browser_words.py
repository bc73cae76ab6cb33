"""What the page says on which a browser says no, in each of its languages. Plain text: the page escapes it.

What it shares with the page for a token stands in `privacy_words`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """title, lead: while the browser is recorded; title_out, lead_out: while it says no.

    no_hint: {} is a number of days. same: by the identity of a campaign, and "any", where none is named.
    """

    title: str
    title_out: str
    lead: str
    lead_out: str
    no: str
    no_hint: str
    yes: str
    yes_hint: str
    unkept: str
    unmoved: str
    where: str
    framed: str
    alone: str
    page: str
    came: str
    about: str
    same: Mapping[str, str]
    totals: str
    brief: str
    site: str


ENGLISH = Words(
    title="Recording of opened web pages",
    title_out="Nothing is recorded of this browser",
    lead="Some web pages contain a tiny image or a script of this server. So it learns that they were "
    "opened. You can say no here, at any time and without giving a reason.",
    lead_out="This browser sends along a cookie that says no. Nothing is recorded of what it opens; it is "
    "only counted how often no was said, as a number.",
    no="Record nothing of this browser",
    no_hint="Sets a cookie that says no, and nothing else. It lasts for {} days, unless you delete it "
    "before.",
    yes="Allow recording again",
    yes_hint="Deletes this cookie. Opened pages are then recorded again, as described below.",
    unkept="Your browser has not kept your answer: it takes no cookie here.",
    unmoved="Your browser goes on saying no: it holds one more such cookie, which was set when this page "
    "was shown in another place. You can take it back there, or delete it in your browser.",
    where="Where your answer holds",
    framed="In this browser, for the site on which you see this page, and for no other.",
    alone="In this browser, for the site that this server itself belongs to. For other sites it holds only "
    "where your browser lets them send third-party cookies, which many browsers do not. On another site, "
    "please use the page that this site shows for it.",
    page="which page was opened and when: its path, without what stands behind a question mark; and how "
    "long it was shown",
    came="where you came from: of another site only its name (the host), and the names of source, medium "
    "and campaign, if the page's address contains them (UTM)",
    about="your country and language, your browser and operating system, and the kind of your device",
    same={
        "cookieless": "whether it is the same visitor, on one day: by a code computed from your IP address "
        "and browser (a hash). It changes daily, and its key is destroyed 48 hours after the day",
        "cookie": "if you agreed to that on the page, whether it is the same visitor: by a cookie, for at "
        "most 13 months. It contains a random number, your first and last visit, and how many there were",
        "own": "whether it is the same visitor: by an identifier that the site gives you, of which a code "
        "is kept (a keyed hash)",
        "any": "whether it is the same visitor: depending on the site, by a code that changes daily, by a "
        "cookie, or by an identifier that the site gives you",
    },
    totals="all of this is counted in totals that name nobody",
    brief="your full IP address and your browser's identification (user agent), only until the view has "
    "been judged and counted",
    site="The site on which the page was opened",
)

GERMAN = Words(
    title="Erfassung geöffneter Webseiten",
    title_out="Von diesem Browser wird nichts erfasst",
    lead="Manche Webseiten enthalten ein winziges Bild oder ein Skript dieses Servers. So erfährt er, dass "
    "sie geöffnet wurden. Sie können hier Nein sagen, jederzeit und ohne Angabe von Gründen.",
    lead_out="Dieser Browser schickt ein Cookie mit, das Nein sagt. Was er öffnet, wird nicht erfasst; nur "
    "wie oft Nein gesagt wurde, wird gezählt, als bloße Zahl.",
    no="Von diesem Browser nichts erfassen",
    no_hint="Setzt ein Cookie, das Nein sagt und sonst nichts. Es gilt {} Tage, wenn Sie es nicht vorher "
    "löschen.",
    yes="Erfassung wieder erlauben",
    yes_hint="Löscht dieses Cookie. Geöffnete Seiten werden dann wieder erfasst, wie unten beschrieben.",
    unkept="Ihr Browser hat Ihre Antwort nicht behalten: Er nimmt hier kein Cookie an.",
    unmoved="Ihr Browser sagt weiterhin Nein: Er hat noch ein solches Cookie, das gesetzt wurde, als diese "
    "Seite an anderer Stelle gezeigt wurde. Sie können es dort zurücknehmen oder in Ihrem Browser löschen.",
    where="Wo Ihre Antwort gilt",
    framed="In diesem Browser, für die Website, auf der Sie diese Seite sehen, und für keine andere.",
    alone="In diesem Browser, für die Website, zu der dieser Server selbst gehört. Für andere Websites gilt "
    "sie nur, wo Ihr Browser ihnen erlaubt, Cookies Dritter zu senden; viele Browser tun das nicht. Nutzen "
    "Sie auf einer anderen Website bitte die Seite, die diese dafür zeigt.",
    page="welche Seite wann geöffnet wurde: ihr Pfad, ohne das, was hinter einem Fragezeichen steht; und "
    "wie lange sie zu sehen war",
    came="woher Sie kamen: von einer anderen Website nur ihr Name (der Host), und die Namen von Quelle, "
    "Medium und Kampagne, wenn die Adresse der Seite sie enthält (UTM)",
    about="Ihr Land und Ihre Sprache, Ihr Browser und Betriebssystem und die Art Ihres Geräts",
    same={
        "cookieless": "ob es derselbe Besucher ist, innerhalb eines Tages: an einem Code, der aus Ihrer "
        "IP-Adresse und Ihrem Browser berechnet wird (ein Hash). Er wechselt täglich, und sein Schlüssel "
        "wird 48 Stunden nach dem Tag vernichtet",
        "cookie": "wenn Sie auf der Seite zugestimmt haben, ob es derselbe Besucher ist: an einem Cookie, "
        "höchstens 13 Monate lang. Es enthält eine Zufallszahl, Ihren ersten und letzten Besuch und die "
        "Zahl der Besuche",
        "own": "ob es derselbe Besucher ist: an einer Kennung, die Ihnen die Website gibt und von der ein "
        "Code gespeichert wird (ein Hash mit Schlüssel)",
        "any": "ob es derselbe Besucher ist: je nach Website an einem Code, der täglich wechselt, an einem "
        "Cookie oder an einer Kennung, die Ihnen die Website gibt",
    },
    totals="all das wird in Summen gezählt, die niemanden nennen",
    brief="Ihre vollständige IP-Adresse und die Kennung Ihres Browsers (User-Agent), nur bis der Aufruf "
    "beurteilt und gezählt ist",
    site="Die Website, auf der die Seite geöffnet wurde",
)

FRENCH = Words(
    title="Enregistrement de l'ouverture des pages web",
    title_out="Rien n'est enregistré de ce navigateur",
    lead="Certaines pages web contiennent une image minuscule ou un script de ce serveur. Il apprend ainsi "
    "qu'elles ont été ouvertes. Vous pouvez dire non ici, à tout moment et sans donner de raison.",
    lead_out="Ce navigateur envoie un cookie qui dit non. Rien n'est enregistré de ce qu'il ouvre ; seul le "
    "nombre de fois où non a été dit est compté, sans autre indication.",
    no="Ne rien enregistrer de ce navigateur",
    no_hint="Dépose un cookie qui dit non, et rien d'autre. Il dure {} jours, sauf si vous le supprimez "
    "avant.",
    yes="Autoriser à nouveau l'enregistrement",
    yes_hint="Supprime ce cookie. L'ouverture des pages est alors de nouveau enregistrée, comme décrit "
    "ci-dessous.",
    unkept="Votre navigateur n'a pas conservé votre réponse : il n'accepte pas de cookie ici.",
    unmoved="Votre navigateur continue de dire non : il a un autre cookie de ce genre, déposé quand cette "
    "page était affichée ailleurs. Vous pouvez le retirer là-bas, ou le supprimer dans votre navigateur.",
    where="Où votre réponse s'applique",
    framed="Dans ce navigateur, pour le site sur lequel vous voyez cette page, et pour aucun autre.",
    alone="Dans ce navigateur, pour le site auquel ce serveur lui-même appartient. Pour d'autres sites, "
    "elle ne s'applique que si votre navigateur leur permet d'envoyer des cookies tiers, ce que beaucoup de "
    "navigateurs ne font pas. Sur un autre site, veuillez utiliser la page que ce site affiche à cet effet.",
    page="quelle page a été ouverte et quand : son chemin, sans ce qui suit un point d'interrogation ; et "
    "pendant combien de temps elle a été affichée",
    came="d'où vous êtes venu : d'un autre site, seulement son nom (l'hôte), et les noms de la source, du "
    "média et de la campagne, si l'adresse de la page les contient (UTM)",
    about="votre pays et votre langue, votre navigateur et votre système d'exploitation, et le type de "
    "votre appareil",
    same={
        "cookieless": "s'il s'agit du même visiteur, au cours d'une journée : par un code calculé à partir "
        "de votre adresse IP et de votre navigateur (un hachage). Il change chaque jour, et sa clé est "
        "détruite 48 heures après la fin de la journée",
        "cookie": "si vous l'avez accepté sur la page, s'il s'agit du même visiteur : par un cookie, "
        "pendant 13 mois au plus. Il contient un nombre aléatoire, votre première et votre dernière visite, "
        "et leur nombre",
        "own": "s'il s'agit du même visiteur : par un identifiant que le site vous donne, et dont un code "
        "est conservé (un hachage à clé)",
        "any": "s'il s'agit du même visiteur : selon le site, par un code qui change chaque jour, par un "
        "cookie ou par un identifiant que le site vous donne",
    },
    totals="tout cela est compté dans des totaux qui ne désignent personne",
    brief="votre adresse IP complète et l'identification de votre navigateur (agent utilisateur), seulement "
    "jusqu'à ce que l'ouverture soit évaluée et comptée",
    site="Le site sur lequel la page a été ouverte",
)

SPANISH = Words(
    title="Registro de páginas web abiertas",
    title_out="No se registra nada de este navegador",
    lead="Algunas páginas web contienen una imagen diminuta o un script de este servidor. Así este sabe que "
    "se han abierto. Aquí puede decir que no, en cualquier momento y sin dar motivos.",
    lead_out="Este navegador envía una cookie que dice que no. No se registra nada de lo que abre; solo se "
    "cuenta cuántas veces se ha dicho que no, como un simple número.",
    no="No registrar nada de este navegador",
    no_hint="Guarda una cookie que dice que no, y nada más. Dura {} días, a menos que usted la borre antes.",
    yes="Volver a permitir el registro",
    yes_hint="Borra esta cookie. Las páginas abiertas se registran entonces de nuevo, como se describe "
    "abajo.",
    unkept="Su navegador no ha guardado su respuesta: no acepta cookies aquí.",
    unmoved="Su navegador sigue diciendo que no: tiene otra cookie de este tipo, guardada cuando esta "
    "página se mostraba en otro lugar. Puede retirarla allí o borrarla en su navegador.",
    where="Dónde vale su respuesta",
    framed="En este navegador, para el sitio en el que ve esta página, y para ningún otro.",
    alone="En este navegador, para el sitio al que pertenece este mismo servidor. Para otros sitios vale "
    "solo si su navegador les permite enviar cookies de terceros, y muchos navegadores no lo hacen. En otro "
    "sitio, use la página que ese sitio muestra para ello.",
    page="qué página se ha abierto y cuándo: su ruta, sin lo que sigue a un signo de interrogación; y "
    "cuánto tiempo se ha mostrado",
    came="de dónde venía usted: de otro sitio solo su nombre (el host), y los nombres de fuente, medio y "
    "campaña, si la dirección de la página los contiene (UTM)",
    about="su país y su idioma, su navegador y su sistema operativo, y el tipo de su dispositivo",
    same={
        "cookieless": "si se trata del mismo visitante, dentro de un día: por un código calculado a partir "
        "de su dirección IP y su navegador (un hash). Cambia cada día, y su clave se destruye 48 horas "
        "después del día",
        "cookie": "si usted lo aceptó en la página, si se trata del mismo visitante: por una cookie, "
        "durante 13 meses como máximo. Contiene un número aleatorio, su primera y su última visita, y "
        "cuántas ha habido",
        "own": "si se trata del mismo visitante: por un identificador que le da el sitio y del que se "
        "conserva un código (un hash con clave)",
        "any": "si se trata del mismo visitante: según el sitio, por un código que cambia cada día, por una "
        "cookie o por un identificador que le da el sitio",
    },
    totals="todo esto se cuenta en totales que no identifican a nadie",
    brief="su dirección IP completa y la identificación de su navegador (agente de usuario), solo hasta que "
    "la visita se haya evaluado y contado",
    site="El sitio en el que se abrió la página",
)

WORDS: Mapping[str, Words] = {"en": ENGLISH, "de": GERMAN, "fr": FRENCH, "es": SPANISH}
"""By language, of two letters."""
