"""Of which words are made tickets composed? English and German ones, as people write to a service desk.

A symptom has several wordings, since people rarely use the same; German ones use compounds and their first parts.
"""

from typing import NamedTuple


class Words(NamedTuple):
    """What tickets of one language are made of; `{}` in a text stands for a product, a code or a machine."""

    language: str
    products: tuple[tuple[str, ...], ...]  # each with the words that people use for it
    symptoms: tuple[tuple[str, ...], ...]
    codes: tuple[str, ...]
    machines: tuple[str, ...]
    asides: tuple[str, ...]
    greetings: tuple[str, ...]


ENGLISH = Words(
    "english",
    (
        ("Outlook", "the mail client"), ("the VPN client", "the VPN", "the tunnel"), ("the label printer", "the Zebra printer"),
        ("SAP", "the SAP GUI"), ("Teams", "the Teams app"), ("the badge reader", "the door reader"), ("the scanner", "the document scanner"),
        ("Excel", "the spreadsheet"), ("OneDrive", "the synchronised folders"), ("the docking station", "the dock"), ("the wireless network", "the Wi-Fi"),
        ("the payroll application", "payroll"), ("the file server", "the shared drive"), ("Citrix", "the Citrix session"), ("the print spooler", "the print queue"),
        ("the customer database", "the Oracle database"), ("single sign-on", "the login page"), ("the time clock", "the time recording terminal"),
        ("the conference phone", "the desk phone"), ("the backup job", "the nightly backup"), ("the barcode gun", "the handheld"), ("the intranet", "the wiki"),
        ("BitLocker", "the disk encryption"), ("the proxy", "the web filter"),
    ),
    (
        ("stops with an error", "fails with a message", "breaks off and shows an error"),
        ("asks for my password again and again", "keeps prompting for credentials", "wants the password every few minutes"),
        ("is very slow", "takes minutes to open anything", "responds with long delays"),
        ("cannot be reached", "is not reachable any more", "does not answer, the connection times out"),
        ("freezes", "hangs and has to be killed", "does not respond after a few clicks"),
        ("crashes on start", "closes right after it opens", "terminates while loading"),
        ("prints blank pages", "produces empty sheets", "puts out paper with nothing on it"),
        ("says that the licence has expired", "complains about a missing licence", "wants a new licence key"),
        ("refuses my certificate", "does not trust the certificate", "reports that a certificate is invalid"),
        ("loses its settings", "forgets the configuration after each restart", "comes up with default settings"),
        ("does not synchronise", "no longer syncs", "shows old data, synchronisation is stuck"),
        ("denies access", "says that I have no permission", "tells me access is denied although I am in the group"),
        ("was not updated", "fails to install the update", "rolls the update back"),
        ("sends everything twice", "creates duplicates", "delivers each item two times"),
        ("has no sound", "stays silent", "audio does not work in it"),
        ("shows a blank screen", "stays black", "displays nothing at all"),
    ),
    (
        "The message says {}.", "Error {} appears.", "The event log has {} at that time.", "It all began with {}.",
        "On the screen I read {} (see picture).", "Support article for {} did not help.", "Looks like {}/unknown to me.",
    ),
    (
        "It happens on {}.", "We saw it on {} first.", "The machine concerned is {}.", "Everything that goes through {} is affected.",
        "My colleague restarted {} twice.", "Monitoring is green for {}.",
    ),
    (
        "I have already restarted my computer.", "Reinstalling it did not help.", "A colleague in accounting sees the same thing.",
        "We need this for the reports that are due on Friday.", "You may take over my screen between ten and twelve.",
        "It worked before the holidays.", "The workaround from last time has no effect.", "Nobody in our office can work until this is solved.",
        "I tried another cable and another socket.", "This started after the move to the new building.", "A picture is attached.",
        "Please call me on my mobile, I am in meetings all day.", "The customer is waiting on the line.", "It is only me, as far as I know.",
        "My manager asked me to open this ticket.", "Somebody from the help desk looked at it in March.",
    ),
    ("Hello team,", "Hi,", "Dear service desk,", "Good morning,", "", "", "URGENT:", "Following up by mail:"),
)  # fmt: skip

GERMAN = Words(
    "german",
    (
        ("der Vertretungsplan", "die Vertretung"), ("der Netzwerkdrucker", "der Netzwerk-Drucker"), ("die Druckerwarteschlange", "der Drucker"),
        ("das Postfach", "die Postfächer"), ("die Zeiterfassung", "die Zeiterfassungsterminals"), ("das Kennwort", "die Kennwortänderung"),
        ("die Reisekostenabrechnung", "die Reisekosten"), ("der Bildschirm", "die Bildschirme"), ("die Telefonanlage", "das Telefon"),
        ("der Dateiserver", "die Dateien auf dem Server"), ("die Urlaubsverwaltung", "der Urlaubsantrag"), ("das Kassensystem", "die Kassen"),
        ("die Datensicherung", "die Datensicherungen"), ("der Etikettendrucker", "die Etiketten"), ("die Lohnbuchhaltung", "die Lohnabrechnungen"),
        ("die Anmeldung", "die Anmeldeseite"), ("der Schülerausweis", "die Schülerausweise"), ("die Raumbuchung", "die Raumbuchungen"),
        ("das Funknetz", "die Funknetze"), ("die Schnittstelle", "die Schnittstellen"),
    ),
    (
        ("meldet einen Fehler", "zeigt eine Fehlermeldung", "bricht mit einem Fehler ab"),
        ("verlangt immer wieder das Passwort", "fragt ständig nach Zugangsdaten", "will alle paar Minuten Passwörter"),
        ("ist sehr langsam", "braucht Minuten, bis etwas geöffnet wird", "reagiert mit langen Verzögerungen"),
        ("ist nicht erreichbar", "lässt sich nicht erreichen", "antwortet nicht, die Verbindungen laufen ab"),
        ("friert ein", "hängt und muss beendet werden", "reagiert nach einigen Klicks nicht mehr"),
        ("stürzt beim Start ab", "schließt sich gleich nach dem Öffnen", "wird beim Laden beendet"),
        ("druckt leere Seiten", "gibt nur weiße Blätter aus", "wirft leeres Papier aus"),
        ("sagt, die Lizenz sei abgelaufen", "beschwert sich über fehlende Lizenzen", "will einen neuen Lizenzschlüssel"),
        ("lehnt mein Zertifikat ab", "vertraut den Zertifikaten nicht", "hält ein Zertifikat für ungültig"),
        ("vergisst die Einstellungen", "verliert nach jedem Neustart die Konfiguration", "kommt immer mit Standardeinstellungen hoch"),
        ("gleicht nicht mehr ab", "zeigt alte Daten, der Abgleich steht", "hat keinen Abgleich der Daten"),
        ("verweigert den Zugriff", "sagt, ich hätte keine Berechtigung", "lässt mich trotz Berechtigungen nicht zu"),
        ("wurde nicht aktualisiert", "spielt die Aktualisierung nicht ein", "nimmt die Aktualisierungen zurück"),
        ("schickt alles doppelt", "legt Einträge zweimal an", "erzeugt doppelte Einträge"),
    ),
    (
        "Die Meldung lautet {}.", "Es erscheint Fehler {}.", "Im Ereignisprotokoll steht {}.", "Angefangen hat es mit {}.",
        "Auf dem Bildschirm steht {} (siehe Bild).", "Der Artikel zu {} hat nicht geholfen.", "Vermutlich {}/unbekannt.",
    ),
    (
        "Betroffen ist {}.", "Zuerst fiel es auf {} auf.", "Das Gerät heißt {}.", "Alles, was über {} läuft, ist gestört.",
        "Ein Kollege hat {} zweimal neu gestartet.", "Die Überwachung zeigt für {} nichts an.",
    ),
    (
        "Ich habe den Rechner schon neu gestartet.", "Eine Neuinstallation hat nicht geholfen.", "Eine Kollegin in der Buchhaltung sieht dasselbe.",
        "Wir brauchen das für die Berichte am Freitag.", "Zwischen zehn und zwölf können Sie meinen Bildschirm übernehmen.",
        "Vor den Ferien ging es noch.", "Die Umgehung vom letzten Mal wirkt nicht.", "Niemand im Büro kann arbeiten, bis das gelöst ist.",
        "Ich habe ein anderes Kabel probiert.", "Seit dem Umzug ins neue Gebäude ist das so.", "Ein Bild liegt bei.",
        "Bitte rufen Sie mich auf dem Handy an.", "Der Kunde wartet am Telefon.", "Soweit ich weiß, betrifft es nur mich.",
    ),
    ("Guten Tag,", "Hallo zusammen,", "Sehr geehrte Damen und Herren,", "Moin,", "", "", "DRINGEND:", "Nachtrag per Mail:"),
)  # fmt: skip
