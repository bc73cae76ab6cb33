"""What the privacy page says, in each of its languages. Plain text: the page escapes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """titles, leads: by the name of a state. keep: by kind of data, in the order they are shown."""

    titles: Mapping[str, str]
    leads: Mapping[str, str]
    stop: str
    stop_hint: str
    erase: str
    erase_hint: str
    erase_stopped_hint: str
    allow: str
    allow_hint: str
    what: str
    what_before: str
    what_if_allowed: str
    nothing: str
    totals: str
    last: str
    code: str
    opens: str
    traces: str
    name: str
    brief: str
    whom: str
    runs: str
    sender: str
    long: str
    keep: Mapping[str, str]
    day: str
    days: str


ENGLISH = Words(
    titles={
        "FOREIGN": "Unknown link",
        "ANONYMOUS": "This link names nobody",
        "RECORDED": "Recording of opened mails",
        "STOPPED": "Recording is stopped",
        "ERASED": "Your data is erased",
        "ERASING": "Your data is being erased",
        "LATER": "Please wait a minute",
        "AWAY": "Not possible right now",
    },
    leads={
        "FOREIGN": "This link is not known here. Perhaps it was cut off or changed on its way, or it "
        "belongs to another server. Nothing was changed.",
        "ANONYMOUS": "The link in your mail does not say who you are: it is the same for everyone who was "
        "sent the mail that day. So nothing here can be traced to you, and there is nothing to stop or to "
        "erase.",
        "RECORDED": "A mail sent to you contains a tiny image. When it is loaded, this server learns that "
        "the mail was opened. You can stop the recording here, at any time and without giving a reason.",
        "STOPPED": "Nothing more is recorded about you when you open a mail, not even one that you already "
        "have. What was recorded before is kept until its time is over, or until you erase it.",
        "ERASED": "Nothing is kept about you any more, except for one entry that says to record nothing "
        "about you.",
        "ERASING": "Nothing more is recorded about you. What is still kept about you is removed within "
        "about an hour.",
        "LATER": "This was asked for too often within a minute. Nothing was changed this time. Please try "
        "again in a minute.",
        "AWAY": "Right now, nothing can be stored here. Nothing is changed yet. Please try again later.",
    },
    stop="Stop recording",
    stop_hint="Nothing more is then recorded about you, not even with mails that you already have.",
    erase="Erase my data",
    erase_hint="Removes what is kept about you, in all mailings, and also stops the recording.",
    erase_stopped_hint="Removes what is kept about you, in all mailings. Recording stays stopped.",
    allow="Allow recording again",
    allow_hint="Opened mails are then recorded again, as described below.",
    what="What is recorded",
    what_before="What was recorded",
    what_if_allowed="What is recorded only if you allow it again",
    nothing="nothing when this mail is opened",
    totals="that a mail was opened, as part of totals that name nobody",
    last="about you, only the day on which you last opened a mail",
    code="instead of your address, a code computed from it with a secret key (a keyed hash)",
    opens="when you first and last opened the mail, how often, and how soon",
    traces="until some minutes' worth of openings by others has followed, at most a day: a code computed "
    "from your IP address, your country, and the kind of your mail program and device, to tell people from "
    "programs that check mails; country, program and device are also counted in totals per day that name "
    "nobody",
    name="your name, as the sender has it",
    brief="your full IP address and your mail program's identification (user agent), only until the opening "
    "has been judged and counted",
    whom="By whom",
    runs="Who runs this server",
    sender="The sender of the mail",
    long="For how long",
    keep={
        "buckets": "Totals per quarter of an hour",
        "days": "Totals per day",
        "recipients": "What is kept about you, after the mail was sent",
        "names": "Your name, after the mail was sent",
        "dead_letters": "Requests that could not be read, which may contain your IP address",
    },
    day="{} day",
    days="{} days",
)

GERMAN = Words(
    titles={
        "FOREIGN": "Unbekannter Link",
        "ANONYMOUS": "Dieser Link nennt niemanden",
        "RECORDED": "Erfassung geöffneter E-Mails",
        "STOPPED": "Die Erfassung ist beendet",
        "ERASED": "Ihre Daten sind gelöscht",
        "ERASING": "Ihre Daten werden gelöscht",
        "LATER": "Bitte warten Sie eine Minute",
        "AWAY": "Im Moment nicht möglich",
    },
    leads={
        "FOREIGN": "Dieser Link ist hier nicht bekannt. Vielleicht wurde er unterwegs abgeschnitten oder "
        "verändert, oder er gehört zu einem anderen Server. Es wurde nichts geändert.",
        "ANONYMOUS": "Der Link in Ihrer E-Mail sagt nicht, wer Sie sind: Er ist für alle gleich, denen die "
        "E-Mail an diesem Tag geschickt wurde. Hier lässt sich also nichts Ihnen zuordnen, und es gibt "
        "nichts zu beenden oder zu löschen.",
        "RECORDED": "Eine E-Mail an Sie enthält ein winziges Bild. Wird es geladen, erfährt dieser Server, "
        "dass die E-Mail geöffnet wurde. Sie können die Erfassung hier beenden, jederzeit und ohne Angabe "
        "von Gründen.",
        "STOPPED": "Über Sie wird nichts mehr erfasst, wenn Sie eine E-Mail öffnen, auch nicht bei E-Mails, "
        "die Sie schon haben. Was vorher erfasst wurde, bleibt gespeichert, bis seine Frist abläuft oder "
        "Sie es löschen.",
        "ERASED": "Über Sie ist nichts mehr gespeichert, außer einem Eintrag, der besagt, dass über Sie "
        "nichts erfasst werden soll.",
        "ERASING": "Über Sie wird nichts mehr erfasst. Was noch über Sie gespeichert ist, wird innerhalb "
        "etwa einer Stunde entfernt.",
        "LATER": "Das wurde innerhalb einer Minute zu oft verlangt. Diesmal wurde nichts geändert. Bitte "
        "versuchen Sie es in einer Minute noch einmal.",
        "AWAY": "Im Moment kann hier nichts gespeichert werden. Noch ist nichts geändert. Bitte versuchen "
        "Sie es später noch einmal.",
    },
    stop="Erfassung beenden",
    stop_hint="Über Sie wird dann nichts mehr erfasst, auch nicht bei E-Mails, die Sie schon haben.",
    erase="Meine Daten löschen",
    erase_hint="Entfernt, was über Sie gespeichert ist, in allen Aussendungen, und beendet auch die "
    "Erfassung.",
    erase_stopped_hint="Entfernt, was über Sie gespeichert ist, in allen Aussendungen. Die Erfassung bleibt "
    "beendet.",
    allow="Erfassung wieder erlauben",
    allow_hint="Geöffnete E-Mails werden dann wieder erfasst, wie unten beschrieben.",
    what="Was erfasst wird",
    what_before="Was erfasst wurde",
    what_if_allowed="Was nur erfasst wird, wenn Sie es wieder erlauben",
    nothing="nichts, wenn diese E-Mail geöffnet wird",
    totals="dass eine E-Mail geöffnet wurde, als Teil von Summen, die niemanden nennen",
    last="über Sie nur der Tag, an dem Sie zuletzt eine E-Mail geöffnet haben",
    code="anstelle Ihrer Adresse ein Code, der mit einem geheimen Schlüssel aus ihr berechnet wird (ein "
    "Hash mit Schlüssel)",
    opens="wann Sie die E-Mail zum ersten und zum letzten Mal geöffnet haben, wie oft und wie bald",
    traces="bis Öffnungen anderer aus einigen weiteren Minuten eingegangen sind, höchstens einen Tag lang: "
    "ein aus Ihrer IP-Adresse berechneter Code, Ihr Land und die Art Ihres Mailprogramms und Geräts, um "
    "Menschen von Programmen zu unterscheiden, die E-Mails prüfen; Land, Programm und Gerät werden auch in "
    "Tagessummen gezählt, die niemanden nennen",
    name="Ihr Name, wie ihn der Absender kennt",
    brief="Ihre vollständige IP-Adresse und die Kennung Ihres Mailprogramms (User-Agent), nur bis das "
    "Öffnen beurteilt und gezählt ist",
    whom="Durch wen",
    runs="Wer diesen Server betreibt",
    sender="Der Absender der E-Mail",
    long="Wie lange",
    keep={
        "buckets": "Summen je Viertelstunde",
        "days": "Summen je Tag",
        "recipients": "Was über Sie gespeichert ist, nach dem Versand",
        "names": "Ihr Name, nach dem Versand",
        "dead_letters": "Abrufe, die nicht gelesen werden konnten; sie können Ihre IP-Adresse enthalten",
    },
    day="{} Tag",
    days="{} Tage",
)

FRENCH = Words(
    titles={
        "FOREIGN": "Lien inconnu",
        "ANONYMOUS": "Ce lien ne désigne personne",
        "RECORDED": "Enregistrement de l'ouverture des e-mails",
        "STOPPED": "L'enregistrement est arrêté",
        "ERASED": "Vos données sont effacées",
        "ERASING": "Vos données sont en cours d'effacement",
        "LATER": "Veuillez patienter une minute",
        "AWAY": "Impossible pour le moment",
    },
    leads={
        "FOREIGN": "Ce lien n'est pas connu ici. Il a peut-être été coupé ou modifié en route, ou il "
        "appartient à un autre serveur. Rien n'a été modifié.",
        "ANONYMOUS": "Le lien de votre e-mail ne dit pas qui vous êtes, car il est le même pour tous ceux à "
        "qui l'e-mail a été envoyé ce jour-là. Rien ici ne peut donc vous être attribué, et il n'y a rien à "
        "arrêter ni à effacer.",
        "RECORDED": "Un e-mail qui vous a été envoyé contient une image minuscule. Quand elle est chargée, "
        "ce serveur apprend que l'e-mail a été ouvert. Vous pouvez arrêter l'enregistrement ici, à tout "
        "moment et sans donner de raison.",
        "STOPPED": "Plus rien n'est enregistré à votre sujet quand vous ouvrez un e-mail, même un e-mail "
        "que vous avez déjà reçu. Ce qui a été enregistré auparavant est conservé jusqu'à la fin de sa "
        "durée, ou jusqu'à ce que vous l'effaciez.",
        "ERASED": "Plus rien n'est conservé à votre sujet, sauf une mention indiquant de ne rien "
        "enregistrer sur vous.",
        "ERASING": "Plus rien n'est enregistré à votre sujet. Ce qui est encore conservé est supprimé en "
        "une heure environ.",
        "LATER": "Cela a été demandé trop souvent en une minute. Rien n'a été modifié cette fois-ci. "
        "Veuillez réessayer dans une minute.",
        "AWAY": "Pour le moment, rien ne peut être enregistré ici. Rien n'est encore modifié. Veuillez "
        "réessayer plus tard.",
    },
    stop="Arrêter l'enregistrement",
    stop_hint="Plus rien n'est alors enregistré à votre sujet, même pour les e-mails que vous avez déjà "
    "reçus.",
    erase="Effacer mes données",
    erase_hint="Supprime ce qui est conservé à votre sujet, dans tous les envois, et arrête aussi "
    "l'enregistrement.",
    erase_stopped_hint="Supprime ce qui est conservé à votre sujet, dans tous les envois. L'enregistrement "
    "reste arrêté.",
    allow="Autoriser à nouveau l'enregistrement",
    allow_hint="L'ouverture des e-mails est alors de nouveau enregistrée, comme décrit ci-dessous.",
    what="Ce qui est enregistré",
    what_before="Ce qui a été enregistré",
    what_if_allowed="Ce qui n'est enregistré que si vous l'autorisez à nouveau",
    nothing="rien quand cet e-mail est ouvert",
    totals="le fait qu'un e-mail a été ouvert, dans des totaux qui ne désignent personne",
    last="à votre sujet, seulement le jour où vous avez ouvert un e-mail pour la dernière fois",
    code="à la place de votre adresse, un code calculé à partir d'elle avec une clé secrète (un hachage à "
    "clé)",
    opens="quand vous avez ouvert l'e-mail pour la première et la dernière fois, combien de fois, et après "
    "combien de temps",
    traces="jusqu'à ce que les ouvertures d'autres personnes de quelques minutes aient suivi, un jour au "
    "plus : un code calculé à partir de votre adresse IP, votre pays et le type de votre logiciel de "
    "messagerie et de votre appareil, pour distinguer les personnes des programmes qui vérifient les "
    "e-mails ; pays, logiciel et appareil sont aussi comptés dans des totaux par jour qui ne "
    "nomment personne",
    name="votre nom, tel que l'expéditeur le connaît",
    brief="votre adresse IP complète et l'identification de votre logiciel de messagerie (agent "
    "utilisateur), seulement jusqu'à ce que l'ouverture soit évaluée et comptée",
    whom="Par qui",
    runs="Qui gère ce serveur",
    sender="L'expéditeur de l'e-mail",
    long="Pendant combien de temps",
    keep={
        "buckets": "Totaux par quart d'heure",
        "days": "Totaux par jour",
        "recipients": "Ce qui est conservé à votre sujet, après l'envoi",
        "names": "Votre nom, après l'envoi",
        "dead_letters": "Requêtes qui n'ont pas pu être lues et qui peuvent contenir votre adresse IP",
    },
    day="{} jour",
    days="{} jours",
)

SPANISH = Words(
    titles={
        "FOREIGN": "Enlace desconocido",
        "ANONYMOUS": "Este enlace no identifica a nadie",
        "RECORDED": "Registro de correos abiertos",
        "STOPPED": "El registro está detenido",
        "ERASED": "Sus datos están borrados",
        "ERASING": "Sus datos se están borrando",
        "LATER": "Espere un minuto, por favor",
        "AWAY": "No es posible en este momento",
    },
    leads={
        "FOREIGN": "Este enlace no se conoce aquí. Quizás se cortó o se modificó por el camino, o pertenece "
        "a otro servidor. No se ha cambiado nada.",
        "ANONYMOUS": "El enlace de su correo no dice quién es usted: es el mismo para todas las personas a "
        "las que se envió el correo ese día. Por eso nada de lo que hay aquí se puede atribuir a usted, y "
        "no hay nada que detener ni que borrar.",
        "RECORDED": "Un correo que se le ha enviado contiene una imagen diminuta. Cuando se carga, este "
        "servidor sabe que el correo se ha abierto. Aquí puede detener el registro, en cualquier momento y "
        "sin dar motivos.",
        "STOPPED": "Ya no se registra nada sobre usted cuando abre un correo, ni siquiera uno que ya haya "
        "recibido. Lo que se registró antes se conserva hasta que termine su plazo o hasta que usted lo "
        "borre.",
        "ERASED": "Ya no se conserva nada sobre usted, salvo una anotación que indica que no se debe "
        "registrar nada sobre usted.",
        "ERASING": "Ya no se registra nada sobre usted. Lo que aún se conserva se elimina en una hora "
        "aproximadamente.",
        "LATER": "Esto se ha pedido demasiadas veces en un minuto. Esta vez no se ha cambiado nada. "
        "Vuelva a intentarlo dentro de un minuto.",
        "AWAY": "En este momento no se puede guardar nada aquí. Aún no se ha cambiado nada. Vuelva a "
        "intentarlo más tarde.",
    },
    stop="Detener el registro",
    stop_hint="A partir de entonces no se registra nada sobre usted, ni siquiera con los correos que ya "
    "haya recibido.",
    erase="Borrar mis datos",
    erase_hint="Elimina lo que se conserva sobre usted, en todos los envíos, y además detiene el registro.",
    erase_stopped_hint="Elimina lo que se conserva sobre usted, en todos los envíos. El registro sigue "
    "detenido.",
    allow="Volver a permitir el registro",
    allow_hint="Los correos abiertos se registran entonces de nuevo, como se describe abajo.",
    what="Qué se registra",
    what_before="Qué se ha registrado",
    what_if_allowed="Qué se registra solo si usted vuelve a permitirlo",
    nothing="nada cuando se abre este correo",
    totals="que se ha abierto un correo, dentro de totales que no identifican a nadie",
    last="sobre usted, solo el día en que abrió un correo por última vez",
    code="en lugar de su dirección, un código calculado a partir de ella con una clave secreta (un hash con "
    "clave)",
    opens="cuándo abrió el correo por primera y por última vez, cuántas veces y al cabo de cuánto tiempo",
    traces="hasta que hayan seguido aperturas de otras personas durante algunos minutos, como máximo un día: "
    "un código calculado a partir de su dirección IP, su país y el tipo de su programa de correo y "
    "dispositivo, para distinguir a las personas de los programas que revisan correos; país, programa y "
    "dispositivo también se cuentan en totales por día que no nombran a nadie",
    name="su nombre, tal como lo conoce el remitente",
    brief="su dirección IP completa y la identificación de su programa de correo (agente de usuario), solo "
    "hasta que la apertura se haya evaluado y contado",
    whom="Quién lo registra",
    runs="Quién gestiona este servidor",
    sender="El remitente del correo",
    long="Durante cuánto tiempo",
    keep={
        "buckets": "Totales por cuarto de hora",
        "days": "Totales por día",
        "recipients": "Lo que se conserva sobre usted, tras el envío",
        "names": "Su nombre, tras el envío",
        "dead_letters": "Solicitudes que no se pudieron leer y que pueden contener su dirección IP",
    },
    day="{} día",
    days="{} días",
)

WORDS: Mapping[str, Words] = {"en": ENGLISH, "de": GERMAN, "fr": FRENCH, "es": SPANISH}
"""By language, of two letters."""
