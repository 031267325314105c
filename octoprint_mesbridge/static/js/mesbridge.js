/*
 * Settings tab, wizard page and mark in the navigation bar: one view model over the plugin's API, of which
 * mesbridge_key.js makes the part about the key and mesbridge_mark.js the one about the mark.
 * What a status means in words is in mesbridge_words.js, the entry for config.json in mesbridge_entry.js.
 * Names and messages come from other machines: they are bound as text, or go through mesbridge_text.js.
 */
$(function () {
    const TAB = "#settings_plugin_mesbridge";
    const WIZARD = "#wizard_plugin_mesbridge";
    const POLL_MS = 3000;
    const POLL_PAIRING_MS = 1000;
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

        function refusal(answer) {
            if (answer.status === 0)
                return gettext("OctoPrint does not answer. Check that it runs, and that this computer reaches it.");
            if (answer.status === 403)
                return gettext(
                    "OctoPrint refused this: you may not do it, or your password has to be entered again. Reload the page and try once more."
                );
            return (
                (answer.responseJSON || {}).error ||
                _.sprintf(gettext("OctoPrint could not do this (HTTP %(status)d); octoprint.log says why."), {
                    status: answer.status
                })
            );
        }

        function complain(answer) {
            new PNotify({
                title: gettext("MES connection"),
                text: MESBridge.escape(refusal(answer)),
                type: "error"
            });
        }

        function fetchStatus() {
            if (!self.mayAsk()) return $.Deferred().reject().promise();
            return OctoPrint.simpleApiGet("mesbridge")
                .done(show)
                .fail((answer) => self.unreadable(refusal(answer)));
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

        self.confirmPairing = () => {
            const code = self.pairing().code; // what was compared, whatever is shown once the password is typed
            authenticated(() =>
                command("confirm_pairing", {code}).done(() => {
                    pairingHere = true;
                    follow();
                    $("#settings_mesbridge_pairing").trigger("focus");
                })
            );
        };

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

        // ------------------------------------------------------------ 4. the key, and the entry for config.json

        const closeKey = MESBridge.keyPart(self, {command, authenticated, ownUrl});

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
                (status) =>
                    _.size(status.left_out)
                        ? gettext("They could not be understood or kept; see octoprint.log.")
                        : ""
            ),
            fact(
                gettext("Replaced by newer values"),
                (status) => (_.size(status.superseded) ? MESBridge.counts(status.superseded) : ""),
                () => gettext("This is as it should be: only the newest counts.")
            ),
            fact(
                gettext("Last error"),
                (status) => MESBridge.problem(status) || status.last_error || gettext("no error since OctoPrint started"),
                (status) =>
                    !MESBridge.problem(status) && status.last_error
                        ? _.sprintf(gettext("last seen %(time)s"), {time: MESBridge.time(status.last_error_at)})
                        : ""
            ),
            fact(gettext("Clocks"), (status) => MESBridge.clock(status.clock_offset)),
            fact(
                gettext("Key"),
                (status) => {
                    if (!status.key) return "";
                    return status.key.last_used ? MESBridge.used(status.key) : gettext("not needed so far");
                },
                () => gettext("The bridge uses it only to ask back; events are signed without sending it.")
            )
        ];

        // ------------------------------------------------------------ 6. which machine

        self.suggestion = (key) => (self.status().identity_suggestions || {})[key] || "";

        // ------------------------------------------------------------ the mark in the navigation bar

        const followError = MESBridge.markPart(self, {fetchStatus, isShown: () => $(TAB).is(":visible")});

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
            closeKey();
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
