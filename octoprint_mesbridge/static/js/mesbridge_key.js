/*
 * The part of the tab's view model about the key: made, replaced, ended, revoked, and taken to the bridge by hand.
 * In flow a person's wishes and the status; out flow commands, and once the new key, which is kept nowhere.
 */
$(function () {
    window.MESBridge = window.MESBridge || {};

    /**
     * Gives the view model `self` what its template needs here. `command`, `authenticated` and `ownUrl` are the view
     * model's; what is returned ends all that is under way, for when the tab is closed.
     */
    MESBridge.keyPart = (self, {command, authenticated, ownUrl}) => {
        self.newKey = ko.observable("");
        let newKeyUser = null;
        self.newKeyReplaces = ko.observable(false);
        self.rotating = ko.observable(false);
        self.jobControl = ko.observable(false);
        self.overlap = ko.observable("24");

        self.keyForm = ko.pureComputed(() => {
            if (!self.known()) return "";
            if (!self.status().key) return "generate";
            return self.rotating() ? "rotate" : "";
        });

        self.keyInUse = ko.pureComputed(() => {
            const key = self.status().key || {};
            return _.sprintf(gettext("The key in use begins with %(prefix)s and was made %(when)s."), {
                prefix: key.prefix,
                when: MESBridge.ago(key.created)
            });
        });
        self.keyRights = ko.pureComputed(() =>
            (self.status().key || {}).job_control
                ? gettext("It reads the printer's status and controls jobs.")
                : gettext("It reads the printer's status and nothing else.")
        );
        self.keyBefore = ko.pureComputed(() => {
            const previous = (self.status().key || {}).previous;
            if (!previous) return "";
            return _.sprintf(gettext("The one before, %(prefix)s, works until %(time)s (%(used)s)."), {
                prefix: previous.prefix,
                time: moment(previous.valid_until).format("L LT"),
                used: MESBridge.used(previous)
            });
        });

        const showNewKey = (response) => {
            self.newKeyReplaces(self.rotating());
            self.newKey(response.api_key);
            newKeyUser = (response.key || {}).user;
            self.rotating(false);
            self.jobControl(false);
            $("#settings_mesbridge_key").trigger("focus").trigger("select");
        };

        // A key that was replaced or revoked meanwhile, by pairing or by somebody else, is not to be taken anywhere.
        self.status.subscribe((status) => {
            if (self.newKey() && (status.key || {}).user !== newKeyUser) self.forgetKey();
        });

        self.generateKey = () =>
            authenticated(() => command("generate_key", {job_control: self.jobControl()}).done(showNewKey));

        self.openRotation = () => {
            self.jobControl(!!(self.status().key || {}).job_control);
            self.overlap("24");
            self.rotating(true);
            $("#settings_mesbridge_overlap").trigger("focus");
        };

        self.closeKeyForm = () => {
            self.rotating(false);
            self.jobControl(false);
            $("#settings_mesbridge_rotate").trigger("focus");
        };

        self.rotateKey = () =>
            authenticated(() =>
                command("rotate_key", {
                    job_control: self.jobControl(),
                    overlap_hours: Number(self.overlap())
                }).done(showNewKey)
            );

        self.endOverlap = () =>
            authenticated(() =>
                showConfirmationDialog(
                    self.status().previous_key_in_use
                        ? gettext("The bridge still uses the old key: nothing arrives there until it has the new one.")
                        : gettext("The old key stops working at once, and whoever is connected with it is disconnected."),
                    () =>
                        command("end_overlap").done(() => $("#settings_mesbridge_rotate").trigger("focus"))
                )
            );

        self.revokeKey = () =>
            authenticated(() =>
                showConfirmationDialog(
                    gettext(
                        "The key stops working at once, and this printer is no longer reported. Its entry in the bridge's config.json stays: remove it there, unless you pair again."
                    ),
                    () => command("revoke_key").done(() => $("#settings_mesbridge_generate").trigger("focus"))
                )
            );

        self.copyKey = () => copyField("#settings_mesbridge_key");
        self.forgetKey = () => self.newKey("");
        self.doneWithKey = () => {
            self.forgetKey();
            $("#settings_mesbridge_rotate").trigger("focus");
        };

        // The field itself is copied from: the dialog would not let another one have the focus.
        function copyField(field) {
            $(field).trigger("focus").trigger("select");
            const copied = document.execCommand("copy");
            new PNotify({
                title: gettext("MES connection"),
                text: copied
                    ? gettext("Copied.")
                    : gettext("The browser does not let this page copy. The text is selected: press Ctrl+C."),
                text_escape: true,
                type: copied ? "success" : "notice",
                delay: 2000
            });
        }

        // ------------------------------------------------------------ the entry for config.json

        self.entryVersions = [
            {version: "1.4", label: gettext("Aggregator 1.4 and later")},
            {version: "1.2", label: gettext("Aggregator 1.2 and 1.3")},
            {version: "1.1", label: gettext("Aggregator 1.1")}
        ];
        self.entryWanted = ko.observable(false);
        self.entryShown = ko.pureComputed(
            () => self.entryWanted() || (!!self.newKey() && !self.newKeyReplaces())
        );
        self.showEntry = () => {
            self.entryWanted(true);
            $("#settings_mesbridge_entry_name").trigger("focus");
        };
        self.entryVersion = ko.observable("1.4");
        self.entryName = ko.observable("");
        self.entryMes = ko.observable("1");
        self.entryPort = ko.observable("");

        self.entryMesIds = ko.pureComputed(() => MESBridge.mesIds(self.entryMes()));
        self.entryPortNumber = ko.pureComputed(() => MESBridge.port(self.entryPort()));
        self.entryTabId = ko.pureComputed(
            () =>
                "settings_mesbridge_version_" +
                _.findIndex(self.entryVersions, {version: self.entryVersion()})
        );
        // Each machine's files have names of their own: those of many printers end up in one folder.
        const slug = () =>
            MESBridge.slug(self.entryName().trim() || MESBridge.hostAndPort(ownUrl()));
        self.secretFile = ko.pureComputed(() => "secret-" + slug() + ".txt");
        // Where the bridge keeps the key of a machine that it serves, only its config.json says.
        self.newKeyHelp = ko.pureComputed(() =>
            self.newKeyReplaces()
                ? gettext(
                      "Replace the content of the file that this machine's entry in the bridge's config.json names by this key (in an entry for Aggregator 1.1 the `api_key` itself), and restart the bridge. The key is gone when this window is saved or closed."
                  )
                : gettext(
                      "Take it to the bridge with the entry and the secret file below. If this machine is in the bridge's config.json already, only replace the content of the file that its entry names by this key (in an entry for Aggregator 1.1 the `api_key` itself), and restart the bridge. The key is gone when this window is saved or closed."
                  )
        );
        self.entryHelp = ko.pureComputed(() =>
            self.entryVersion() === "1.1"
                ? gettext("If this machine is in there already, keep its entry and replace only the `api_key` in it.")
                : gettext(
                      "If this machine is in there already, keep its entry and replace only the content of the secret file that it names."
                  )
        );
        self.secretMode = ko.pureComputed(() => "chmod 600 " + self.secretFile());
        self.secretLabel = ko.pureComputed(() =>
            _.sprintf(gettext("Download %(file)s"), {file: self.secretFile()})
        );

        self.entryProblem = ko.pureComputed(() => {
            if (!self.entryMesIds()) return gettext("Enter the numbers of the MES instances, such as 1.");
            if (!self.octoprintUsable()) return gettext("Enter the address of this OctoPrint above.");
            if (self.entryVersion() !== "1.4" && self.entryPortNumber() === undefined)
                return gettext("Enter a port from 1 to 65535, or none.");
            if (self.entryVersion() === "1.1" && !self.newKey())
                return gettext("Version 1.1 has the key in the entry itself: the entry can be made only while a new key is shown.");
            return "";
        });

        self.entryText = ko.pureComputed(() =>
            self.entryProblem()
                ? ""
                : MESBridge.entry(self.entryVersion(), {
                      url: ownUrl().replace(/\/+$/, ""),
                      name: self.entryName().trim(),
                      mesIds: self.entryMesIds(),
                      secretFile: self.secretFile(),
                      port: self.entryPortNumber(),
                      key: self.newKey()
                  })
        );
        self.entryRows = ko.pureComputed(() => self.entryText().split("\n").length);

        self.chooseVersion = (of) => self.entryVersion(of.version);

        self.versionKey = (of, event) => {
            const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
            if (!step) return true;
            const count = self.entryVersions.length;
            const next = (self.entryVersions.indexOf(of) + step + count) % count;
            self.chooseVersion(self.entryVersions[next]);
            $("#settings_mesbridge_version_" + next).trigger("focus");
            return false;
        };

        self.copyEntry = () => copyField("#settings_mesbridge_entry");
        self.saveEntry = () =>
            MESBridge.save(
                "config-" + slug() + ".json",
                "application/json",
                self.entryText() + "\n"
            );
        const saveKey = (name) => MESBridge.save(name, "text/plain", self.newKey() + "\n");
        self.saveSecret = () => saveKey(self.secretFile());
        self.saveReplacement = () => saveKey("new-key.txt");

        return () => {
            self.forgetKey();
            self.rotating(false);
            self.jobControl(false);
            self.entryWanted(false);
        };
    };
});
