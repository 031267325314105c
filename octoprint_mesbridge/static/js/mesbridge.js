/*
 * Settings tab, wizard page and mark in the navigation bar: one view model over the plugin's API.
 * What a status means in words is in mesbridge_words.js, the entry for config.json in mesbridge_entry.js.
 * Names and messages come from other machines: they are bound as text, or go through mesbridge_text.js.
 */
$(function () {
    const TAB = "#settings_plugin_mesbridge";
    const WIZARD = "#wizard_plugin_mesbridge";
    const POLL_MS = 3000;
    const POLL_PAIRING_MS = 1000;
    const SEEN_LOST = "plugin.mesbridge.seenLost";
    const PAIRING_OPEN = ["requesting", "comparing", "confirmed"];
    const ALERTS = {error: "alert-error", warning: "", info: "alert-info", success: "alert-success"};

    function MESBridgeViewModel(parameters) {
        const self = this;
        self.settingsViewModel = parameters[0];
        self.loginState = parameters[1];
        self.access = parameters[2];

        self.settings = undefined;
        self.status = ko.observable({});
        self.unreadable = ko.observable("");
        self.known = ko.observable(false);
        self.busy = ko.observable(false);

        // ------------------------------------------------------------ permissions

        const may = (name) =>
            ko.pureComputed(() =>
                self.loginState.hasPermission(self.access.permissions["PLUGIN_MESBRIDGE_" + name])
            );
        self.mayAsk = may("STATUS");
        self.mayGenerate = may("GENERATE");
        self.mayRotate = may("ROTATE");
        self.mayRevoke = may("REVOKE");

        // ------------------------------------------------------------ talking to the plugin

        function command(name, payload) {
            self.busy(true);
            return OctoPrint.simpleApiCommand("mesbridge", name, payload)
                .done(show)
                .fail(complain)
                .always(() => self.busy(false));
        }

        const authenticated = (callback) => self.loginState.reauthenticateIfNecessary(callback);

        function show(response) {
            self.unreadable("");
            self.status(_.omit(response, ["api_key", "test", "bridges", "note"]));
            self.known(true);
            followError();
        }

        function complain(answer) {
            const said = (answer.responseJSON || {}).error || answer.statusText;
            const refused = gettext(
                "OctoPrint refused this: you may not do it, or your password has to be entered again. Reload the page and try once more."
            );
            new PNotify({
                title: gettext("MES connection"),
                text: MESBridge.escape(answer.status === 403 ? refused : said),
                type: "error"
            });
        }

        function fetchStatus() {
            if (!self.mayAsk()) return $.Deferred().reject().promise();
            return OctoPrint.simpleApiGet("mesbridge")
                .done(show)
                .fail((answer) =>
                    self.unreadable(
                        _.sprintf(gettext("OctoPrint does not answer (%(reason)s)."), {
                            reason: answer.statusText
                        })
                    )
                );
        }

        let settingsOpen = false;
        let timer = null;

        function follow() {
            window.clearTimeout(timer);
            fetchStatus().always(() => {
                window.clearTimeout(timer);
                if (settingsOpen) timer = window.setTimeout(look, self.pairingOpen() ? POLL_PAIRING_MS : POLL_MS);
            });
        }

        function look() {
            if ($(TAB).is(":visible") && !document.hidden) follow();
            else timer = window.setTimeout(look, POLL_MS);
        }

        // ------------------------------------------------------------ 1. how it stands

        const saved = () => ((self.settingsViewModel.lastReceivedSettings || {}).plugins || {}).mesbridge || {};

        self.summary = ko.pureComputed(() => {
            const told = (level, headline, advice) => ({level, headline, advice});
            if (!self.mayAsk())
                return told(
                    "info",
                    gettext("You may not see the state of the MES connection"),
                    gettext("An administrator can allow it in Settings > Access Control.")
                );
            if (self.unreadable())
                return told("warning", gettext("The state cannot be read"), self.unreadable());
            if (!self.known()) return told("info", gettext("Asking OctoPrint ..."), "");
            return MESBridge.summary(self.status(), saved());
        });
        self.summaryClass = ko.pureComputed(() => ALERTS[self.summary().level]);

        // ------------------------------------------------------------ 2. which bridge

        const typed = () =>
            MESBridge.withScheme(((self.settings && self.settings.bridge_url()) || "").trim());

        self.addressUsable = ko.pureComputed(() => !typed() || self.addressGiven());
        self.addressGiven = ko.pureComputed(() => MESBridge.isAddress(typed()));
        self.completeAddress = () => self.settings.bridge_url(typed());
        self.unencrypted = ko.pureComputed(() => self.addressGiven() && typed().startsWith("http:"));
        self.certificate = ko.pureComputed(() => {
            const pinned = self.status().pinned;
            if (!pinned || !typed().startsWith("https:")) return "";
            return MESBridge.origin(typed()) === MESBridge.origin(pinned.origin) ? pinned.sha256 : "";
        });

        self.finding = ko.observable(false);
        self.bridges = ko.observableArray([]);
        self.findAnswer = ko.observable("");
        self.testing = ko.observable(false);
        self.test = ko.observable(null);

        self.findBridges = () => {
            self.finding(true);
            self.bridges([]);
            self.findAnswer("");
            command("find_bridges")
                .done((response) => {
                    const found = response.bridges || [];
                    self.bridges(found);
                    self.findAnswer(found.length ? foundText(found.length) : notFoundText(response.note));
                })
                .always(() => self.finding(false));
        };

        const foundText = (count) =>
            count === 1
                ? gettext("One bridge found:")
                : _.sprintf(gettext("%(count)d bridges found:"), {count: count});

        const notFoundText = (note) =>
            note ||
            gettext("No bridge announces itself in this network. Type in its address; whoever looks after it knows it.");

        self.versionOf = (bridge) =>
            bridge.version ? _.sprintf(gettext("version %(version)s"), {version: bridge.version}) : "";

        self.chooseLabel = (bridge) =>
            _.sprintf(gettext("Use %(bridge)s"), {bridge: bridge.name || bridge.url});

        self.chooseBridge = (bridge, event) => {
            const field = $(event.currentTarget).closest(".controls").find("input[type=url]");
            self.settings.bridge_url(bridge.url);
            self.bridges([]);
            self.findAnswer("");
            self.test(null);
            field.trigger("focus");
        };

        self.testConnection = () => {
            const address = typed();
            self.testing(true);
            self.test(null);
            command("test_connection", {bridge_url: address})
                .done((response) => {
                    if (typed() === address) self.test(MESBridge.test(response.test));
                })
                .always(() => self.testing(false));
        };

        self.testClass = ko.pureComputed(() => ALERTS[(self.test() || {}).level] || "");

        // A test's answer holds for one address and the keys of that moment.
        const tested = ko.pureComputed(() => {
            const {key, pairing} = self.status();
            const previous = (key || {}).previous;
            return JSON.stringify([typed(), (key || {}).user, (previous || {}).prefix, (pairing || {}).state]);
        });

        // ------------------------------------------------------------ 3. pairing

        self.octoprintUrl = ko.observable((window.location.origin + BASEURL).replace(/\/+$/, ""));
        const ownUrl = () => MESBridge.withScheme(self.octoprintUrl().trim());
        self.octoprintUsable = ko.pureComputed(() => MESBridge.isAddress(ownUrl()));
        self.octoprintLoopback = ko.pureComputed(() => MESBridge.isLoopback(ownUrl()));
        self.completeOctoprint = () => self.octoprintUrl(ownUrl());

        self.pairing = ko.pureComputed(() => {
            const pairing = self.status().pairing;
            if (!pairing) return {};
            const open = PAIRING_OPEN.includes(pairing.state);
            const code = open && pairing.code ? String(pairing.code) : "";
            return {
                ...MESBridge.pairing(pairing),
                open: open,
                comparing: pairing.state === "comparing",
                closeLabel: pairing.state === "done" ? gettext("Done") : gettext("Close"),
                code: code,
                spelledCode: code.replace(/[^0-9]/g, "").split("").join(" "),
                expires: pairing.expires
                    ? _.sprintf(gettext("The request ends %(when)s."), {when: moment(pairing.expires).fromNow()})
                    : ""
            };
        });
        self.pairingHelp = gettext(
            "Open the bridge for requests first with `mesbridge pair open --minutes 10`. There `mesbridge pair list` then shows the request and its code, and `mesbridge pair accept ID` accepts it. If the bridge was started with `--settings`, add that option to each of them."
        );
        // That all is done is not said beside what is wrong since.
        self.pairingShown = ko.pureComputed(() => {
            const {pairing, trouble, error, idle} = self.status();
            return !!pairing && !(pairing.state === "done" && (trouble || error || idle));
        });
        self.pairingOpen = ko.pureComputed(() => !!self.pairing().open);
        self.pairingClass = ko.pureComputed(() => ALERTS[self.pairing().level] || "");
        self.mayRequest = ko.pureComputed(
            () => self.mayGenerate() && !self.busy() && self.addressGiven() && self.octoprintUsable()
        );

        self.requestPairing = () => {
            const request = () =>
                command("request_pairing", {
                    bridge_url: typed(),
                    octoprint_url: ownUrl()
                }).done(() => {
                    pairingHere = true;
                    follow();
                    $("#settings_mesbridge_pairing").trigger("focus");
                });
            authenticated(request);
        };

        self.confirmPairing = () =>
            authenticated(() =>
                command("confirm_pairing", {code: self.pairing().code}).done(() => {
                    follow();
                    $("#settings_mesbridge_pairing").trigger("focus");
                })
            );

        /** End the pairing; forget one that has ended. */
        self.cancelPairing = () =>
            command("cancel_pairing").done(() => {
                follow();
                $("#settings_mesbridge_request").trigger("focus");
            });

        // The plugin itself saves what it is paired with. Without this OctoPrint would ask, in the middle of it,
        // whether the form's address shall be kept or replaced by the same one.
        let pairingHere = false;
        self.onSettingsPreventRefresh = () => pairingHere;

        self.status.subscribe((status) => {
            if (!pairingHere || self.pairingOpen()) return;
            pairingHere = false;
            const pairing = status.pairing || {};
            self.settingsViewModel.requestData(true).done(() => {
                if (pairing.state === "done") self.settings.bridge_url(pairing.bridge_url);
            });
        });

        // ------------------------------------------------------------ 4. the key

        self.newKey = ko.observable("");
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
                used: usedText(previous)
            });
        });

        function usedText(key) {
            if (!key.last_used) return gettext("never used");
            return key.last_address
                ? _.sprintf(gettext("last used %(when)s by %(address)s"), {
                      when: MESBridge.ago(key.last_used),
                      address: key.last_address
                  })
                : _.sprintf(gettext("last used %(when)s"), {when: MESBridge.ago(key.last_used)});
        }

        const showNewKey = (response) => {
            self.newKeyReplaces(self.rotating());
            self.newKey(response.api_key);
            self.rotating(false);
            self.jobControl(false);
            $("#settings_mesbridge_key").trigger("focus").trigger("select");
        };

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
                    () => command("revoke_key").done(self.forgetKey)
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

        // ------------------------------------------------------------ 4. the entry for config.json

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
                      "Replace the content of the file that this machine's entry in the bridge's config.json names by this key, and restart the bridge."
                  )
                : gettext(
                      "Take it to the bridge with the entry and the secret file below. If this machine is in the bridge's config.json already, only replace the content of the file that its entry names by this key, and restart the bridge."
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

        // ------------------------------------------------------------ 5. what is happening

        // One object per line for ever: what has not changed is not drawn again, and stays selected.
        const fact = (label, value, note) => ({
            label: label,
            value: ko.pureComputed(() => value(self.status())),
            note: ko.pureComputed(() => (note ? note(self.status()) : ""))
        });
        const noneYet = () => gettext("none since OctoPrint started");

        self.facts = [
            fact(
                gettext("Bridge"),
                (status) => (status.bridge ? MESBridge.bridgeName(status) : ""),
                (status) => self.versionOf(status.bridge || {})
            ),
            fact(
                gettext("Last acknowledged event"),
                (status) =>
                    status.acknowledged_event
                        ? _.sprintf(gettext("%(kind)s, %(time)s"), {
                              kind: MESBridge.kind(status.acknowledged_event.kind),
                              time: MESBridge.time(status.acknowledged_event.time)
                          })
                        : noneYet(),
                (status) =>
                    status.acknowledged_event
                        ? _.sprintf(gettext("no. %(seq)d"), {seq: status.acknowledged_event.seq})
                        : ""
            ),
            fact(gettext("Last contact"), (status) =>
                status.acknowledged ? MESBridge.ago(status.acknowledged) : noneYet()
            ),
            fact(
                gettext("Events waiting"),
                (status) => String(status.waiting || 0),
                (status) =>
                    status.oldest_waiting
                        ? _.sprintf(gettext("the oldest is from %(when)s"), {
                              when: MESBridge.ago(status.oldest_waiting)
                          })
                        : ""
            ),
            fact(
                gettext("Lost"),
                (status) => MESBridge.counts(status.dropped),
                (status) =>
                    MESBridge.lost(status)
                        ? gettext("More waited than there is room for. Job events are never dropped.")
                        : ""
            ),
            fact(
                gettext("Left out"),
                (status) => MESBridge.counts(status.left_out),
                (status) => (_.size(status.left_out) ? gettext("They could not be kept; see octoprint.log.") : "")
            ),
            fact(
                gettext("Replaced by newer values"),
                (status) => (_.size(status.superseded) ? MESBridge.counts(status.superseded) : ""),
                () => gettext("This is as it should be: only the newest counts.")
            ),
            fact(gettext("Last error"), (status) => status.trouble || status.error || gettext("no error")),
            fact(gettext("Clocks"), (status) => MESBridge.clock(status.clock_offset)),
            fact(
                gettext("Key"),
                (status) => {
                    if (!status.key) return "";
                    return status.key.last_used ? usedText(status.key) : gettext("not needed so far");
                },
                () => gettext("The bridge uses it only to ask back; events are signed without sending it.")
            )
        ];

        // ------------------------------------------------------------ 6. which machine

        self.suggestion = (key) => (self.status().identity_suggestions || {})[key] || "";

        // ------------------------------------------------------------ the mark in the navigation bar

        const errorBegan = ko.observable(null);
        const now = ko.observable(Date.now());
        const seenLost = ko.observable(null);
        let patience = null;

        // A status is fetched when the plugin says that something changed; only how long an error lasts is
        // watched here.
        function followError() {
            const status = self.status();
            if (!status.error || status.idle) {
                errorBegan(null);
                window.clearTimeout(patience);
                patience = null;
            } else if (errorBegan() === null) {
                errorBegan(Date.now());
                patience = window.setTimeout(fetchStatus, MESBridge.PATIENCE_MS + 500);
            }
            now(Date.now());
            if ($(TAB).is(":visible")) rememberLost();
        }

        // Lost events are shown until the tab has been looked at; the count begins anew with each OctoPrint start.
        function rememberLost() {
            const status = self.status();
            const value = {instance: status.instance, count: MESBridge.lost(status)};
            seenLost(value);
            localStorage[SEEN_LOST] = JSON.stringify(value);
        }

        function lostSeen() {
            let value = seenLost();
            if (value === null) {
                try {
                    value = JSON.parse(localStorage[SEEN_LOST] || "{}");
                } catch (error) {
                    value = {};
                }
            }
            return value.instance === self.status().instance ? value.count || 0 : 0;
        }

        const fault = ko.pureComputed(() => {
            if (!self.mayAsk() || !self.known()) return null;
            const errorFor = errorBegan() === null ? 0 : now() - errorBegan();
            return MESBridge.wrong(self.status(), errorFor, lostSeen());
        });
        self.wrong = ko.pureComputed(() => (fault() || {}).headline || "");

        self.showWhatIsWrong = () => {
            if (self.loginState.hasPermission(self.access.permissions.SETTINGS)) {
                self.settingsViewModel.show("settings_plugin_mesbridge");
                return;
            }
            // This person cannot open the tab.
            const wrong = fault();
            if (!wrong) {
                return; // it has healed since it was shown
            }
            const whom = gettext("An administrator finds more in Settings > MESBridge.");
            new PNotify({
                title: _.escape(wrong.headline),
                text: `<p>${MESBridge.escape(wrong.advice)}</p><p>${_.escape(whom)}</p>`,
                type: "notice"
            });
            rememberLost();
        };

        // ------------------------------------------------------------ OctoPrint's health check

        self.getAdditionalHealthCheckHandlers = () => ({
            mesbridge: (result, context) => ({
                title: gettext("MES connection"),
                html:
                    "<p>" +
                    MESBridge.escape(healthText(context.reason)) +
                    "</p><p>" +
                    MESBridge.escape(self.status().trouble || self.status().error || context.message) +
                    "</p><p>" +
                    MESBridge.escape(gettext("See Settings > MESBridge, where the connection can be tested.")) +
                    "</p>",
                result: result
            })
        });

        function healthText(reason) {
            if (reason === "trouble") return gettext("The MES connection has a problem.");
            if (reason === "storage") return gettext("Events for the MES cannot be kept on the disk.");
            return gettext("The MES bridge cannot be reached. Events are kept and sent later.");
        }

        // ------------------------------------------------------------ OctoPrint's life cycle

        self.onBeforeBinding = () => {
            self.settings = self.settingsViewModel.settings.plugins.mesbridge;
            self.entryName(self.settingsViewModel.appearance_name() || "");
            tested.subscribe(() => self.test(null));
        };

        self.onUserPermissionsChanged =
            self.onUserLoggedIn =
            self.onUserLoggedOut =
                () => {
                    if (self.mayAsk()) fetchStatus();
                    else self.known(false);
                };

        self.onDataUpdaterPluginMessage = (plugin) => {
            if (plugin === "mesbridge") fetchSoon();
        };
        self.onDataUpdaterReconnect = () => fetchSoon();
        // A disk that refuses events and events that are lost are noticed at the turns of a print.
        self.onEventPrintStarted =
            self.onEventPrintDone =
            self.onEventPrintFailed =
                () => fetchSoon();

        const fetchSoon = _.debounce(fetchStatus, 500, {maxWait: 2000});

        // The wizard saves what its pages hold: one with an address that is none is not left.
        const wizardDone = () => {
            if (!$(WIZARD).length) return true;
            self.completeAddress();
            if (!self.addressUsable()) $("#wizard_mesbridge_url").trigger("focus");
            return self.addressUsable();
        };
        self.onBeforeWizardTabChange = (next, current) => current !== WIZARD.slice(1) + "_link" || wizardDone();
        self.onBeforeWizardFinish = wizardDone;

        self.onSettingsShown = () => {
            settingsOpen = true;
            follow();
        };

        self.onSettingsHidden = () => {
            settingsOpen = false;
            window.clearTimeout(timer);
            pairingHere = false;
            self.forgetKey();
            self.rotating(false);
            self.jobControl(false);
            self.entryWanted(false);
            self.bridges([]);
            self.findAnswer("");
            self.test(null);
        };
    }

    OCTOPRINT_VIEWMODELS.push({
        construct: MESBridgeViewModel,
        dependencies: ["settingsViewModel", "loginStateViewModel", "accessViewModel"],
        elements: [TAB, "#navbar_plugin_mesbridge", WIZARD]
    });
});
