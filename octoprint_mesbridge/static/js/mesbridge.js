$(function () {
    const POLL_MS = 2000;

    function MESBridgeViewModel(parameters) {
        const self = this;
        self.settingsViewModel = parameters[0];
        self.loginState = parameters[1];
        self.access = parameters[2];

        self.settings = undefined;
        self.status = ko.observable({key: null, waiting: 0});
        self.newKey = ko.observable("");
        let timer = null;

        self.mayManage = ko.pureComputed(() =>
            self.loginState.hasPermission(
                self.access.permissions.PLUGIN_MESBRIDGE_MANAGE
            )
        );
        self.mayRevoke = ko.pureComputed(
            () => self.mayManage() && !!self.status().key
        );

        self.generateLabel = ko.pureComputed(() =>
            self.status().key ? gettext("Generate a new key") : gettext("Generate a key")
        );

        self.keyPrefix = ko.pureComputed(() => (self.status().key || {}).prefix);
        self.keyCreated = ko.pureComputed(() => shown((self.status().key || {}).created));
        self.keyLastUsed = ko.pureComputed(() => shown((self.status().key || {}).last_used));
        self.acknowledged = ko.pureComputed(() => shown(self.status().acknowledged));
        self.problem = ko.pureComputed(
            () => self.status().trouble || self.status().error || gettext("none")
        );
        self.connection = ko.pureComputed(() => {
            const status = self.status();
            if (status.idle) return status.idle;
            return status.connected ? gettext("Connected") : gettext("Not connected");
        });

        // The server judges the address in full; this only marks what cannot be one.
        self.addressUsable = ko.pureComputed(() => {
            const text = self.settings ? self.settings.bridge_url() : "";
            return !text || /^https?:\/\/[^\s/@?#]+\/?[^\s?#]*$/.test(text.trim());
        });

        self.onBeforeBinding = () => {
            self.settings = self.settingsViewModel.settings.plugins.mesbridge;
        };

        self.onSettingsShown = () => {
            fetchStatus();
            timer = window.setInterval(fetchStatus, POLL_MS);
        };

        self.onSettingsHidden = () => {
            window.clearInterval(timer);
            self.forgetKey();
        };

        self.generateKey = () => {
            const generate = () =>
                command("generate_key").done((response) => {
                    self.newKey(response.api_key);
                    $("#settings_mesbridge_key").trigger("focus").trigger("select");
                });
            self.loginState.reauthenticateIfNecessary(() => {
                if (!self.status().key) return generate();
                showConfirmationDialog(
                    gettext("The key in use stops working at once. The bridge needs the new one."),
                    generate
                );
            });
        };

        self.revokeKey = () => {
            self.loginState.reauthenticateIfNecessary(() => {
                showConfirmationDialog(
                    gettext("The key stops working at once, and this printer is no longer reported."),
                    () => command("revoke_key").done(self.forgetKey)
                );
            });
        };

        self.copyKey = () => copyToClipboard(self.newKey());
        self.forgetKey = () => self.newKey("");

        function shown(time) {
            return time ? new Date(time).toLocaleString() : gettext("never");
        }

        function show(response) {
            self.status(_.omit(response, "api_key"));
        }

        function fetchStatus() {
            if (self.mayManage()) OctoPrint.simpleApiGet("mesbridge").done(show);
        }

        function command(name) {
            return OctoPrint.simpleApiCommand("mesbridge", name)
                .done(show)
                .fail((answer) => {
                    new PNotify({
                        title: gettext("MES connection"),
                        text: _.escape((answer.responseJSON || {}).error || answer.statusText),
                        type: "error"
                    });
                });
        }
    }

    OCTOPRINT_VIEWMODELS.push({
        construct: MESBridgeViewModel,
        dependencies: ["settingsViewModel", "loginStateViewModel", "accessViewModel"],
        elements: ["#settings_plugin_mesbridge"]
    });
});
