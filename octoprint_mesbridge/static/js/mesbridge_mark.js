/*
 * The part of the tab's view model that shows outside of the tab: the mark in the navigation bar, and what OctoPrint's
 * health check says. In flow the status and the passing of time; out flows what is wrong, if anything is.
 */
$(function () {
    window.MESBridge = window.MESBridge || {};

    const SEEN_LOST = "plugin.mesbridge.seenLost";

    /**
     * Gives the view model `self` its mark. `fetchStatus` asks the plugin, `isShown` tells whether the tab is looked at;
     * what is returned is to be called with every new status.
     */
    MESBridge.markPart = (self, {fetchStatus, isShown}) => {
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
            if (isShown()) rememberLost();
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
                    MESBridge.escape(healthReason(self.status(), context)) +
                    "</p><p>" +
                    MESBridge.escape(gettext("See Settings > MESBridge, where the connection can be tested.")) +
                    "</p>",
                result: result
            })
        });

        // In the reader's language, which what the check itself says is not.
        function healthReason({trouble, storage, error}, {reason, message}) {
            return {trouble, storage: MESBridge.storageAdvice(storage || {}), unreachable: error}[reason] || message;
        }

        function healthText(reason) {
            if (reason === "trouble") return gettext("The MES connection has a problem.");
            if (reason === "storage") return gettext("Events for the MES cannot be kept on the disk.");
            return gettext("Events do not reach the MES bridge. They are kept and sent later.");
        }

        return followError;
    };
});
