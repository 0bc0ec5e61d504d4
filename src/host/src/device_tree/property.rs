//! Properties by which a device names its suppliers.

/// Whether a supplier is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strength {
    /// The kernel leaves it to the driver, which may do without.
    Optional,
    /// The kernel does not probe the device before.
    Required,
}

/// How the suppliers of a property are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Phandles, each with as many numbers as the property of that name in its node says.
    Cells(&'static str),
    /// The same, where a node without that property takes none.
    CellsOrNone(&'static str),
    /// Phandles alone.
    Plain,
    /// The fourth of each four numbers, `iommu-map`.
    Map,
    /// `interrupts`: the numbers mean nothing here, the parent is found up the tree.
    Interrupts,
    /// `interrupt-map`.
    InterruptMap,
}

/// The properties that fw_devlink of the kernel follows (`of_supplier_bindings` of drivers/of/property.c, Linux 6.12), and
/// what it makes of them. It is Linux's default that the optional ones are not waited for; the driver or the IOMMU's core
/// may wait all the same.
const NAMED: &[(&str, Form, Strength)] = &[
    ("clocks", Form::CellsOrNone("#clock-cells"), Strength::Required),
    ("interconnects", Form::CellsOrNone("#interconnect-cells"), Strength::Required),
    ("iommus", Form::CellsOrNone("#iommu-cells"), Strength::Optional),
    ("iommu-map", Form::Map, Strength::Optional),
    ("mboxes", Form::CellsOrNone("#mbox-cells"), Strength::Required),
    ("io-channels", Form::CellsOrNone("#io-channel-cells"), Strength::Required),
    ("io-backends", Form::CellsOrNone("#io-backend-cells"), Strength::Required),
    ("dmas", Form::CellsOrNone("#dma-cells"), Strength::Optional),
    ("power-domains", Form::CellsOrNone("#power-domain-cells"), Strength::Required),
    ("hwlocks", Form::CellsOrNone("#hwlock-cells"), Strength::Required),
    ("extcon", Form::Plain, Strength::Required),
    ("nvmem-cells", Form::CellsOrNone("#nvmem-cell-cells"), Strength::Required),
    ("phys", Form::CellsOrNone("#phy-cells"), Strength::Required),
    ("wakeup-parent", Form::Plain, Strength::Required),
    ("pwms", Form::CellsOrNone("#pwm-cells"), Strength::Required),
    ("resets", Form::CellsOrNone("#reset-cells"), Strength::Required),
    ("leds", Form::Plain, Strength::Required),
    ("backlight", Form::Plain, Strength::Required),
    ("panel", Form::Plain, Strength::Required),
    ("msi-parent", Form::CellsOrNone("#msi-cells"), Strength::Required),
    ("pses", Form::CellsOrNone("#pse-cells"), Strength::Required),
    ("power-supplies", Form::Plain, Strength::Required),
    ("gpio", Form::Cells("#gpio-cells"), Strength::Required),
    ("gpios", Form::Cells("#gpio-cells"), Strength::Required),
    ("interrupts", Form::Interrupts, Strength::Required),
    ("interrupts-extended", Form::Cells("#interrupt-cells"), Strength::Required),
    ("interrupt-map", Form::InterruptMap, Strength::Required),
    ("access-controllers", Form::CellsOrNone("#access-controller-cells"), Strength::Required),
    // Not of fw_devlink: the MMC core and USB drivers wait for these themselves (drivers/mmc/core/pwrseq.c,
    // drivers/usb/phy/phy.c, drivers/usb/chipidea/ci_hdrc_imx.c).
    ("mmc-pwrseq", Form::Plain, Strength::Required),
    ("usb-phy", Form::Plain, Strength::Required),
    ("fsl,usbphy", Form::Plain, Strength::Required),
    ("fsl,usbmisc", Form::Cells("#index-cells"), Strength::Required),
];

/// How a property of that name says who supplies, if it does.
pub(crate) fn form(name: &str) -> Option<(Form, Strength)> {
    let named = NAMED.iter().find(|(other, ..)| *other == name).map(|(_, form, strength)| (*form, *strength));
    let is_behind = |suffix: &str| name.strip_suffix(suffix).is_some_and(|stem| !stem.is_empty());
    let pins = || name.strip_prefix("pinctrl-").is_some_and(|n| matches!(n.parse(), Ok(0..=8)));
    named.or_else(|| {
        if is_behind(",nr-gpios") {
            None
        } else if is_behind("-gpios") || is_behind("-gpio") {
            Some((Form::Cells("#gpio-cells"), Strength::Required))
        } else if is_behind("-supply") || pins() {
            Some((Form::Plain, Strength::Required))
        } else {
            None
        }
    })
}

/// What a property brings, for people: `its card-detect GPIO`.
pub fn in_words(property: &str) -> String {
    const WORDS: &[(&str, &str)] = &[
        ("clocks", "clock"),
        ("interconnects", "interconnect"),
        ("iommus", "IOMMU"),
        ("iommu-map", "IOMMU"),
        ("mboxes", "mailbox"),
        ("io-channels", "IO channel"),
        ("io-backends", "IO backend"),
        ("dmas", "DMA channel"),
        ("power-domains", "power domain"),
        ("hwlocks", "hardware lock"),
        ("nvmem-cells", "NVMEM cell"),
        ("phys", "PHY"),
        ("usb-phy", "USB PHY"),
        ("fsl,usbphy", "USB PHY"),
        ("pwms", "PWM"),
        ("resets", "reset"),
        ("leds", "LED"),
        ("msi-parent", "MSI controller"),
        ("gpio", "GPIO"),
        ("gpios", "GPIO"),
        ("interrupts", "interrupt"),
        ("interrupts-extended", "interrupt"),
        ("interrupt-map", "interrupt"),
        ("mmc-pwrseq", "power sequence"),
        ("cd-gpios", "card-detect GPIO"),
        ("wp-gpios", "write-protect GPIO"),
        ("cs-gpios", "chip-select GPIO"),
    ];
    if let Some((_, words)) = WORDS.iter().find(|(name, _)| *name == property) {
        return format!("its {words}");
    }
    if property.starts_with("pinctrl-") {
        return "its pins".into();
    }
    match property.strip_suffix("-gpios").or(property.strip_suffix("-gpio")) {
        Some(what) => format!("its {what} GPIO"),
        None => format!("its {property}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_those_that_the_kernel_follows() {
        let cells = |name| Some((Form::Cells(name), Strength::Required));
        assert_eq!(form("cd-gpios"), cells("#gpio-cells"));
        assert_eq!(form("gpio"), cells("#gpio-cells"));
        assert_eq!(form("vmmc-supply"), Some((Form::Plain, Strength::Required)));
        assert_eq!(form("pinctrl-0"), Some((Form::Plain, Strength::Required)));
        assert_eq!(form("dmas"), Some((Form::CellsOrNone("#dma-cells"), Strength::Optional)));
        for no in ["x,nr-gpios", "-gpios", "-supply", "pinctrl-9", "pinctrl-names", "remote-endpoint", "reg"] {
            assert_eq!(form(no), None, "{no}");
        }
        assert_eq!(in_words("cd-gpios"), "its card-detect GPIO");
        assert_eq!(in_words("reset-gpios"), "its reset GPIO");
        assert_eq!(in_words("vmmc-supply"), "its vmmc-supply");
        assert_eq!(in_words("pinctrl-1"), "its pins");
        assert_eq!(in_words("extcon"), "its extcon");
    }
}
